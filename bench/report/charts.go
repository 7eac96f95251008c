package report

import (
	"bytes"
	"fmt"
	"html"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/counterd/counterd/bench/lab"
	"github.com/counterd/counterd/bench/stat"
)

// The palette of Okabe and Ito, which colour-blind people can tell apart.
var (
	blue       = color.RGBA{0x00, 0x72, 0xb2, 0xff}
	skyBlue    = color.RGBA{0x56, 0xb4, 0xe9, 0xff}
	orange     = color.RGBA{0xe6, 0x9f, 0x00, 0xff}
	green      = color.RGBA{0x00, 0x9e, 0x73, 0xff}
	vermillion = color.RGBA{0xd5, 0x5e, 0x00, 0xff}
	purple     = color.RGBA{0xcc, 0x79, 0xa7, 0xff}
	grey       = color.RGBA{0xa8, 0xa8, 0xa8, 0xff}
	paleGreen  = color.RGBA{0x9e, 0xd8, 0xc5, 0xff}
	black      = color.RGBA{0x00, 0x00, 0x00, 0xff}
)

// colorOf gives counterd's engines their colours, and peers grey: the eye
// finds the three first.
func colorOf(name string) color.Color {
	switch engine, _, _ := strings.Cut(name, "-"); engine {
	case "gnet":
		return blue
	case "goroutine":
		return skyBlue
	case "std":
		return orange
	}
	return grey
}

// lineColor tells peers apart too.
func lineColor(name string) color.Color {
	switch {
	case name == "gnet-file":
		return purple
	case strings.HasPrefix(name, "epoll"):
		return black
	case name == "fasthttp":
		return green
	case strings.HasPrefix(name, "seed"), strings.HasPrefix(name, "aiohttp"):
		return vermillion
	}
	return colorOf(name)
}

const (
	chartWidth = 9 * vg.Inch
	rowHeight  = 0.27 * vg.Inch
)

// figure is a plot with its words, which stand above and beside it.
type figure struct {
	title, under string
	plot         *plot.Plot
	height       vg.Length
	legend       *plot.Legend // in a column on the right; nil: none
}

const (
	headHeight  = 0.6 * vg.Inch
	legendWidth = 2.5 * vg.Inch
	margin      = 8 * vg.Length(1)
)

// drawCharts draws what the results allow, and says what that was.
func drawCharts(r *lab.Results, dir string) (map[string]bool, error) {
	drawn := map[string]bool{}
	for name, make := range map[string]func(*lab.Results) *figure{
		"rps":           rpsChart,
		"cpu":           cpuChart,
		"decomposition": decompositionChart,
		"connections":   connectionsChart,
		"latency":       latencyChart,
		"memory":        memoryChart,
		"durable":       durableChart,
	} {
		path := filepath.Join(dir, name+".svg")
		f := make(r)
		if f == nil {
			_ = os.Remove(path) // of an earlier report of the same run
			continue
		}
		if err := f.save(path); err != nil {
			return nil, fmt.Errorf("chart %s: %w", name, err)
		}
		drawn[name] = true
	}
	return drawn, nil
}

func (f *figure) save(path string) error {
	svg := vgsvg.New(chartWidth, f.height)
	c := draw.New(svg)
	c.FillPolygon(color.White, []vg.Point{{X: 0, Y: 0}, {X: chartWidth, Y: 0}, {X: chartWidth, Y: f.height}, {X: 0, Y: f.height}})

	top := f.height - margin
	title := textStyle(vg.Points(13), ink)
	title.Font.Weight = bold
	c.FillText(title, vg.Point{X: margin, Y: top - vg.Points(9)}, f.title)
	c.FillText(textStyle(vg.Points(9.5), faint), vg.Point{X: margin, Y: top - vg.Points(26)}, f.under)

	right := -2 * margin
	if f.legend != nil {
		right = -legendWidth
		f.legend.Top, f.legend.Left = true, true
		f.legend.Draw(draw.Crop(c, chartWidth-legendWidth+margin, 0, 0, -headHeight-margin))
	}
	f.plot.Draw(draw.Crop(c, margin, right, margin, -headHeight))
	var b bytes.Buffer
	if _, err := svg.WriteTo(&b); err != nil {
		return err
	}
	return os.WriteFile(path, fixTextWidths(b.Bytes()), 0o644)
}

var svgText = regexp.MustCompile(`style="font-family:Liberation Sans;font-variant:normal;font-weight:(\w+);font-style:normal;font-size:([\d.]+)px;(fill:#[0-9A-F]+)">([^<]*)<`)

// fixTextWidths tells the viewer how wide each text is: its place was computed
// for Liberation Sans, and another font would run over its neighbours.
func fixTextWidths(svg []byte) []byte {
	return svgText.ReplaceAllFunc(svg, func(text []byte) []byte {
		m := svgText.FindSubmatch(text)
		size, err := strconv.ParseFloat(string(m[2]), 64)
		if err != nil {
			return text
		}
		style := textStyle(vg.Length(size), ink)
		if string(m[1]) == "bold" {
			style.Font.Weight = bold
		}
		return fmt.Appendf(nil, `textLength="%.1f" lengthAdjust="spacingAndGlyphs" `+
			`style="font-family:'Liberation Sans',Arial,Helvetica,sans-serif;font-weight:%s;font-size:%spx;%s">%s<`,
			float64(style.Width(html.UnescapeString(string(m[4])))), m[1], m[2], m[3], m[4])
	})
}

// newPlot has the looks that all charts share.
func newPlot(xLabel string) *plot.Plot {
	p := plot.New()
	p.BackgroundColor = nil // the figure's shows through
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Label.TextStyle.Font = sans(vg.Points(9.5))
		axis.Label.TextStyle.Color = faint
		axis.Tick.Label.Font = sans(vg.Points(9.5))
		axis.Tick.Label.Color = ink
		axis.LineStyle.Color = gridLine
		axis.Tick.LineStyle.Color = gridLine
	}
	p.X.Label.Text = xLabel
	p.X.Label.Padding = vg.Points(4)
	return p
}

func newLegend() *plot.Legend {
	l := plot.NewLegend()
	l.TextStyle.Font = sans(vg.Points(9.5))
	l.TextStyle.Color = ink
	l.ThumbnailWidth = vg.Points(24)
	l.Padding = vg.Points(4)
	return &l
}

func barChart(rows bars, title, under, unit string) *figure {
	if len(rows) < 2 {
		return nil
	}
	p := newPlot(unit)
	grid := plotter.NewGrid()
	grid.Horizontal.Width = 0
	grid.Vertical.Color = gridLine
	p.Add(grid, rows)
	p.X.Min = 0
	p.X.Tick.Marker = plot.TickerFunc(roundTicks)
	p.Y.Tick.Marker = rows.ticks()
	p.Y.Tick.LineStyle.Width = 0
	p.Y.LineStyle.Width = 0
	p.X.LineStyle.Width = 0
	p.X.Tick.Length = 0
	p.Y.Tick.Label.XAlign = text.XRight
	return &figure{title: title, under: under, plot: p, height: vg.Length(rows.rows())*rowHeight + headHeight + 0.6*vg.Inch}
}

// roundTicks are about six round numbers.
func roundTicks(low, high float64) []plot.Tick {
	step := math.Pow(10, math.Floor(math.Log10((high-low)/5)))
	for _, m := range []float64{1, 2, 5, 10} {
		if (high-low)/(m*step) <= 7 {
			step *= m
			break
		}
	}
	var ticks []plot.Tick
	for v := 0.0; v <= high; v += step {
		label := thousands(v)
		if step < 1 {
			label = fmt.Sprintf("%.1f", v)
		}
		ticks = append(ticks, plot.Tick{Value: v, Label: label})
	}
	return ticks
}

// intervalNote says under a title what the whiskers are.
func intervalNote(i stat.Interval) string {
	switch {
	case i.N < 2:
		return "one round"
	case i.Kind == stat.Confidence95:
		return fmt.Sprintf("median of %d rounds, line: 95 %% confidence", i.N)
	}
	return fmt.Sprintf("median of %d rounds, line: smallest to largest", i.N)
}

// rankedBars has a bar per contender that keep wants, best first.
func rankedBars(r *lab.Results, scenario, point string, m lab.Metric, ascending bool, keep func(lab.About) bool) bars {
	var rows bars
	for _, c := range r.Measured(scenario, point) {
		if keep != nil && !keep(c) {
			continue
		}
		i := r.Summary(lab.At{Scenario: scenario, Point: point, Contender: c.Name}, m)
		if i.N == 0 {
			continue
		}
		rows = append(rows, bar{
			label: label(r, c.Name), parts: []float64{i.Center}, colors: []color.Color{colorOf(c.Name)},
			interval: i, value: significant(i.Center),
		})
	}
	slices.SortStableFunc(rows, func(a, b bar) int {
		d := b.total() - a.total()
		if ascending {
			d = -d
		}
		return int(math.Copysign(1, d))
	})
	return rows
}

func rpsChart(r *lab.Results) *figure {
	scenario, point := place(r)
	rows := rankedBars(r, scenario, point, lab.RPS, false, nil)
	if len(rows) == 0 {
		return nil
	}
	sc, _ := lab.ScenarioNamed(scenario)
	unit := "requests per second"
	if slices.ContainsFunc(rows, func(b bar) bool { return strings.HasSuffix(b.label, "*") }) {
		unit += "        (* another protocol and load generator)"
	}
	return barChart(rows, "Requests per second", sc.Title+"; "+intervalNote(rows[0].interval), unit)
}

func durableChart(r *lab.Results) *figure {
	scenario, point := place(r)
	rows := rankedBars(r, scenario, point, lab.RPS, false, func(c lab.About) bool { return c.Kind == "durable" })
	if len(rows) == 0 {
		return nil
	}
	return barChart(rows, "Requests per second, each on disk before its answer",
		"100 connections; "+intervalNote(rows[0].interval), "requests per second        (* another protocol and load generator)")
}

func memoryChart(r *lab.Results) *figure {
	rows := rankedBars(r, "idle", "c=10000", lab.PerConn, true, nil)
	if len(rows) == 0 {
		return nil
	}
	return barChart(rows, "Memory per idle connection",
		"10,000 keep-alive connections that each made one request; "+intervalNote(rows[0].interval),
		"resident bytes per connection")
}

// splitBars shows a contender's CPU, the program's share dark and the kernel's light.
func splitBars(r *lab.Results, scenario, point, name, title string) (bar, bool) {
	at := lab.At{Scenario: scenario, Point: point, Contender: name}
	cpu, user, kernel := r.Summary(at, lab.CPU), r.Summary(at, lab.User), r.Summary(at, lab.Kernel)
	if cpu.N == 0 || user.N == 0 {
		return bar{}, false
	}
	// The medians of the parts need not sum to the median of the whole.
	share := user.Center / (user.Center + kernel.Center)
	return bar{
		label: title, parts: []float64{cpu.Center * share, cpu.Center * (1 - share)},
		colors: []color.Color{green, paleGreen}, interval: cpu, value: significant(cpu.Center),
	}, true
}

// withCPULegend explains the two shades.
func withCPULegend(f *figure) *figure {
	if f == nil {
		return nil
	}
	f.legend = newLegend()
	f.legend.ThumbnailWidth = vg.Points(12)
	f.legend.Add("in the program", swatch{green})
	f.legend.Add("in the kernel", swatch{paleGreen})
	return f
}

type swatch struct{ color color.Color }

// Thumbnail implements plot.Thumbnailer.
func (s swatch) Thumbnail(c *draw.Canvas) {
	c.FillPolygon(s.color, []vg.Point{
		{X: c.Min.X, Y: c.Min.Y}, {X: c.Max.X, Y: c.Min.Y},
		{X: c.Max.X, Y: c.Max.Y}, {X: c.Min.X, Y: c.Max.Y},
	})
}

// dearerThan is left out of the CPU chart, which would else show nothing but
// the database: the table has the figures.
const dearerThan = 60

func cpuChart(r *lab.Results) *figure {
	scenario, point := place(r)
	var rows bars
	left := 0
	for _, c := range r.Measured(scenario, point) {
		row, ok := splitBars(r, scenario, point, c.Name, label(r, c.Name))
		switch {
		case !ok:
		case row.total() < dearerThan:
			rows = append(rows, row)
		default:
			left++
		}
	}
	unit := "µs of CPU per request"
	if left > 0 {
		unit += fmt.Sprintf("        (%d above %d µs are left out: see the table)", left, dearerThan)
	}
	slices.SortStableFunc(rows, func(a, b bar) int { return int(math.Copysign(1, a.total()-b.total())) })
	return withCPULegend(barChart(rows, "Server CPU per request: where it goes",
		"100 connections, without the database's; "+firstNote(rows), unit))
}

func firstNote(rows bars) string {
	if len(rows) == 0 {
		return ""
	}
	return intervalNote(rows[0].interval)
}

func decompositionChart(r *lab.Results) *figure {
	var rows bars
	for _, s := range settings {
		group := true
		for _, engine := range []string{"std", "goroutine", "gnet"} {
			row, ok := splitBars(r, s.scenario, s.point, engine+"-mem", engine)
			if !ok {
				continue
			}
			if row.begins = group; group {
				row.label = s.name + ": " + engine
			}
			group = false
			rows = append(rows, row)
		}
	}
	return withCPULegend(barChart(rows, "From net/http to the event loop",
		"std: net/http.  goroutine: own HTTP stack, a goroutine per connection.  gnet: own HTTP stack on an event loop.",
		"µs of server CPU per request        (lines: the interval)"))
}

// aside is how far each curve stands right of the one before, as a factor, so
// that their intervals don't hide each other.
const aside = 1.06

func connectionsChart(r *lab.Results) *figure {
	p, legend := newLinePlot("busy connections (logarithmic)"), newLegend()
	p.Y.Label.Text = "µs of CPU per request (logarithmic)"
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	lines := 0
	for _, c := range r.Contenders {
		var points curvePoints
		sc, _ := lab.ScenarioNamed("connections")
		for _, pt := range sc.Points {
			i := r.Summary(atConnections(r, pt, c.Name), lab.CPU)
			if i.N > 0 {
				points = append(points, curvePoint{float64(pt.Connections) * math.Pow(aside, float64(lines)), i})
			}
		}
		if len(points) < 2 {
			continue // one point is no curve
		}
		addCurve(p, legend, points, c.Title, lineColor(c.Name), lines)
		lines++
	}
	if lines == 0 {
		return nil
	}
	p.X.Tick.Marker = fixedTicks(1, 10, 100, 1000, 10_000)
	p.Y.Tick.Marker = fixedTicks(1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 200, 500, 1000)
	p.X.Min, p.X.Max = 0.8, 16_000
	p.Y.Min, p.Y.Max = 0.9*p.Y.Min, 1.1*p.Y.Max
	return &figure{
		title: "Server CPU per request against connections",
		under: "server on one core, client on another; thin bars: the interval, each curve a little further right",
		plot:  p, height: lineHeight, legend: legend,
	}
}

const lineHeight = 4.6 * vg.Inch

type curvePoint struct {
	x float64
	y stat.Interval
}

type curvePoints []curvePoint

func (c curvePoints) Len() int                { return len(c) }
func (c curvePoints) XY(i int) (x, y float64) { return c[i].x, c[i].y.Center }
func (c curvePoints) YError(i int) (low, high float64) {
	return c[i].y.Center - c[i].y.Lo, c[i].y.Hi - c[i].y.Center
}

// dashes tell lines apart without colour.
var dashes = [][]vg.Length{nil, {vg.Points(6), vg.Points(2.5)}, {vg.Points(2), vg.Points(2)}, {vg.Points(8), vg.Points(2), vg.Points(2), vg.Points(2)}}

var glyphs = []draw.GlyphDrawer{draw.CircleGlyph{}, draw.SquareGlyph{}, draw.TriangleGlyph{}, draw.PyramidGlyph{}, draw.RingGlyph{}, draw.BoxGlyph{}, draw.CrossGlyph{}}

func addCurve(p *plot.Plot, legend *plot.Legend, points curvePoints, title string, c color.Color, nth int) {
	line, marks, err := plotter.NewLinePoints(points)
	if err != nil {
		return // a figure that isn't a number was never measured
	}
	line.Color, line.Width = c, vg.Points(2)
	marks.Color, marks.Radius = c, vg.Points(3.2)
	marks.Shape = glyphs[nth%len(glyphs)]
	p.Add(line, marks)
	if whiskers, err := plotter.NewYErrorBars(points); err == nil {
		whiskers.Color, whiskers.Width, whiskers.CapWidth = c, vg.Points(0.8), vg.Points(4)
		p.Add(whiskers)
	}
	legend.Add(title, line, marks)
}

// newLinePlot has its grid below the lines.
func newLinePlot(xLabel string) *plot.Plot {
	p := newPlot(xLabel)
	grid := plotter.NewGrid()
	grid.Horizontal.Color, grid.Vertical.Color = gridLine, gridLine
	p.Add(grid)
	return p
}

func fixedTicks(values ...float64) plot.ConstantTicks {
	var t plot.ConstantTicks
	for _, v := range values {
		t = append(t, plot.Tick{Value: v, Label: thousands(v)})
	}
	return t
}

// nines spreads percentiles so that 90, 99 and 99.9 are equally far apart.
func nines(percentile float64) float64 { return -math.Log10(1 - percentile/100) }

func latencyChart(r *lab.Results) *figure {
	const point = "50%"
	p, legend := newLinePlot("percentile"), newLegend()
	p.Y.Label.Text = "latency (logarithmic)"
	p.Y.Scale = plot.LogScale{}
	lines := 0
	for _, c := range r.Measured("open", point) {
		points := medianCurve(r, point, c.Name)
		if len(points) < 2 {
			continue
		}
		line, err := plotter.NewLine(points)
		if err != nil {
			continue
		}
		line.Color, line.Width = lineColor(c.Name), vg.Points(2)
		line.Dashes = dashes[lines%len(dashes)]
		p.Add(line)
		legend.Add(c.Title, line)
		lines++
	}
	if lines == 0 {
		return nil
	}
	var x plot.ConstantTicks
	for _, v := range []float64{50, 75, 90, 95, 99, 99.9, 99.99} {
		x = append(x, plot.Tick{Value: nines(v), Label: fmt.Sprintf("%g %%", v)})
	}
	p.X.Tick.Marker = x
	var y plot.ConstantTicks
	for _, us := range []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6} {
		y = append(y, plot.Tick{Value: us, Label: microsecondsTick(us)})
	}
	p.Y.Tick.Marker = y
	p.Y.Min, p.Y.Max = 0.9*p.Y.Min, 1.1*p.Y.Max
	return &figure{
		title: "Latency at half of each contender's own maximum",
		under: "constant rate, 100 connections, from the moment a request was due; median over the rounds",
		plot:  p, height: lineHeight, legend: legend,
	}
}

func microsecondsTick(us float64) string {
	switch {
	case us >= 1e6:
		return fmt.Sprintf("%g s", us/1e6)
	case us >= 1e3:
		return fmt.Sprintf("%g ms", us/1e3)
	}
	return fmt.Sprintf("%g µs", us)
}

// medianCurve takes the median over the rounds at each percentile.
func medianCurve(r *lab.Results, point, contender string) plotter.XYs {
	at := map[float64][]float64{}
	for _, s := range r.Samples {
		if s.Scenario != "open" || s.Point != point || s.Contender != contender || s.Invalid != "" {
			continue
		}
		for _, c := range s.Client.Latency.Curve {
			at[c[0]] = append(at[c[0]], c[1])
		}
	}
	var xy plotter.XYs
	for percentile, values := range at {
		if percentile < 50 {
			continue // nobody asks how fast the fast half was
		}
		xy = append(xy, plotter.XY{X: nines(percentile), Y: stat.Summarize(values).Center})
	}
	slices.SortFunc(xy, func(a, b plotter.XY) int { return int(math.Copysign(1, a.X-b.X)) })
	return xy
}
