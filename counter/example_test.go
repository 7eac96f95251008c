package counter_test

import (
	"context"
	"fmt"

	"github.com/counterd/counterd/counter"
)

func Example() {
	c := counter.NewInstant(counter.NewMem(), counter.Options{})
	defer c.Close(context.Background())

	var b counter.Batch
	b.Done = func(*counter.Batch) { /* a store that takes its time settles here */ }
	first, count, second := b.Hit(nil), b.ReadSum(), b.Hit(nil)
	if c.Submit(&b) {
		for _, place := range []counter.Place{first, count, second} {
			fmt.Println(b.Number(place))
		}
	}
	// Output:
	// 1 <nil>
	// 1 <nil>
	// 2 <nil>
}
