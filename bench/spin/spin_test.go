package spin

import (
	"testing"
	"time"
)

// Twice the time is twice the work, and a step can't be left out.
func TestStepsTakeTheirTime(t *testing.T) {
	one, two := Steps(time.Millisecond), Steps(2*time.Millisecond)
	if ratio := float64(two) / float64(one); ratio < 1 || ratio > 4 {
		t.Errorf("%d steps in 1 ms, %d in 2 ms", one, two)
	}
	took := time.Hour
	for range 20 { // others may use the machine
		began := time.Now()
		if Do(one) == Do(one-1) {
			t.Fatal("a step more changes nothing")
		}
		took = min(took, time.Since(began)/2)
	}
	if took < 200*time.Microsecond {
		t.Errorf("%d steps, which should take 1 ms, took %v", one, took)
	}
}
