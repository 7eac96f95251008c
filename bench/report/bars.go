package report

import (
	"image/color"

	xfont "golang.org/x/image/font"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/counterd/counterd/bench/stat"
)

// bar is one row of a chart of horizontal bars.
type bar struct {
	label string
	// parts are drawn one after the other, each in its colour.
	parts  []float64
	colors []color.Color
	// interval of the whole; not drawn when N < 2.
	interval stat.Interval
	value    string // written at the end
	begins   bool   // a new group: stands apart from the row above
}

func (b bar) total() float64 {
	sum := 0.0
	for _, p := range b.parts {
		sum += p
	}
	return sum
}

// bars draws rows, the first on top.
type bars []bar

const barWidth = 0.34 // half of the bar, in units of a row

var (
	ink      = color.Gray{0x22}
	faint    = color.Gray{0x77}
	gridLine = color.Gray{0xe4}
)

const bold = xfont.WeightBold

func sans(size vg.Length) font.Font {
	return font.Font{Typeface: "Liberation", Variant: "Sans", Size: size}
}

func textStyle(size vg.Length, c color.Color) text.Style {
	return text.Style{
		Color: c, Font: sans(size), XAlign: text.XLeft, YAlign: text.YCenter, Handler: plot.DefaultTextHandler,
	}
}

// groupGap is the space above a row that begins a group, in rows.
const groupGap = 0.7

// rows is the height of all, in rows.
func (b bars) rows() float64 {
	height := float64(len(b))
	for i, row := range b {
		if row.begins && i > 0 {
			height += groupGap
		}
	}
	return height
}

// y is the height of row i: the first row is the highest.
func (b bars) y(i int) float64 { return b.rows() - b[:i+1].rows() }

// Plot implements plot.Plotter.
func (b bars) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	style := textStyle(vg.Points(9.5), ink)
	for i, row := range b {
		from := 0.0
		low, high := y(b.y(i)-barWidth), y(b.y(i)+barWidth)
		for j, part := range row.parts {
			c.FillPolygon(row.colors[j], []vg.Point{
				{X: x(from), Y: low}, {X: x(from + part), Y: low},
				{X: x(from + part), Y: high}, {X: x(from), Y: high},
			})
			from += part
		}
		end := from
		if row.interval.N > 1 {
			whisker(c, x(row.interval.Lo), x(row.interval.Hi), y(b.y(i)))
			end = max(end, row.interval.Hi)
		}
		c.FillText(style, vg.Point{X: x(end) + vg.Points(5), Y: y(b.y(i)) + vg.Points(1)}, row.value)
	}
}

func whisker(c draw.Canvas, from, to, at vg.Length) {
	line := draw.LineStyle{Color: ink, Width: vg.Points(0.9)}
	cap := vg.Points(2.5)
	c.StrokeLine2(line, from, at, to, at)
	c.StrokeLine2(line, from, at-cap, from, at+cap)
	c.StrokeLine2(line, to, at-cap, to, at+cap)
}

// DataRange implements plot.DataRanger. There is room for the values at the end.
func (b bars) DataRange() (xmin, xmax, ymin, ymax float64) {
	for _, row := range b {
		xmax = max(xmax, row.total(), row.interval.Hi)
	}
	return 0, xmax * 1.12, -0.6, b.rows() - 0.4
}

// ticks puts the labels beside the rows.
func (b bars) ticks() plot.ConstantTicks {
	var t plot.ConstantTicks
	for i, row := range b {
		t = append(t, plot.Tick{Value: b.y(i), Label: row.label})
	}
	return t
}
