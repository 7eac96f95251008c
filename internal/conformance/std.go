package conformance

// different is what the std engine does instead.
type different struct {
	want []Outcome
	open bool
	note string
}

var stdDiffers = map[string]different{}
