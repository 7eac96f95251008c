package report

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// drawing is an SVG picture with a background of its own, so that it can be read
// on any page. Where a text begins or ends is left to the viewer: only it knows
// how wide its letters are.
type drawing struct {
	width, height float64
	b             strings.Builder
}

// The palette of Okabe and Ito, which colour-blind people can tell apart.
const (
	blue   = "#0072b2"
	sky    = "#56b4e9"
	orange = "#e69f00"
	green  = "#009e73"
	red    = "#d55e00"
	grey   = "#9a9a9a"
	ink    = "#222222"
	faint  = "#666666"
	rule   = "#dddddd"
)

// Where a text stands in relation to its x.
const (
	atStart  = "start"
	atMiddle = "middle"
	atEnd    = "end"
)

const (
	fontSize = 13.0
	// letter is the width of an average letter, on the safe side.
	letter = 0.56 * fontSize
)

func textWidth(s string) float64 { return letter * float64(len([]rune(s))) }

func (d *drawing) text(x, y float64, anchor, color, s string) {
	fmt.Fprintf(&d.b, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" fill=\"%s\">%s</text>\n",
		x, y+0.35*fontSize, anchor, color, html.EscapeString(s))
}

func (d *drawing) rect(x, y, w, h float64, color string) {
	fmt.Fprintf(&d.b, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\"/>\n", x, y, w, h, color)
}

func (d *drawing) line(x1, y1, x2, y2, width float64, color string) {
	fmt.Fprintf(&d.b, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\" stroke-width=\"%.1f\"/>\n",
		x1, y1, x2, y2, color, width)
}

// dot is filled, or a ring.
func (d *drawing) dot(x, y float64, color string, filled bool) {
	fill := color
	if !filled {
		fill = "#ffffff"
	}
	fmt.Fprintf(&d.b, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"%s\" stroke=\"%s\" stroke-width=\"1.8\"/>\n", x, y, fill, color)
}

// whisker is an interval at a height.
func (d *drawing) whisker(from, to, y float64, color string) {
	const cap = 3
	d.line(from, y, to, y, 1.4, color)
	d.line(from, y-cap, from, y+cap, 1.4, color)
	d.line(to, y-cap, to, y+cap, 1.4, color)
}

const (
	edge    = 16.0
	heading = 58.0 // title and what stands below it
	row     = 24.0
)

// String is the whole picture.
func (d *drawing) String(title, under string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f %.0f\" "+
		"font-family=\"Helvetica, Arial, 'Liberation Sans', sans-serif\" font-size=\"%.0f\" role=\"img\">\n",
		d.width, d.height, d.width, d.height, fontSize)
	fmt.Fprintf(&b, "<title>%s</title>\n", html.EscapeString(title))
	fmt.Fprintf(&b, "<rect width=\"100%%\" height=\"100%%\" rx=\"6\" fill=\"#ffffff\"/>\n")
	fmt.Fprintf(&b, "<text x=\"%.0f\" y=\"26\" font-size=\"16\" font-weight=\"bold\" fill=\"%s\">%s</text>\n", edge, ink, html.EscapeString(title))
	fmt.Fprintf(&b, "<text x=\"%.0f\" y=\"45\" font-size=\"12\" fill=\"%s\">%s</text>\n", edge, faint, html.EscapeString(under))
	b.WriteString(d.b.String())
	b.WriteString("</svg>\n")
	return b.String()
}

// scale maps values to a stretch of the picture.
type scale struct {
	from, to    float64 // values
	left, right float64
	log         bool
}

func (s scale) at(v float64) float64 {
	share := (v - s.from) / (s.to - s.from)
	if s.log {
		share = math.Log(v/s.from) / math.Log(s.to/s.from)
	}
	return s.left + share*(s.right-s.left)
}

// roundTicks are a few round numbers up to high, no more than most.
func roundTicks(high, most float64) []float64 {
	step := math.Pow(10, math.Floor(math.Log10(high/4)))
	for _, m := range []float64{1, 2, 5, 10} {
		if high/(m*step) <= most {
			step *= m
			break
		}
	}
	var ticks []float64
	for v := 0.0; v <= high; v += step {
		ticks = append(ticks, v)
	}
	return ticks
}
