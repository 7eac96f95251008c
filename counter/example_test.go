package counter_test

import (
	"context"
	"fmt"

	"github.com/counterd/counterd/counter"
)

func Example() {
	c := counter.New(counter.NewMem(), counter.Options{})
	defer c.Close(context.Background())

	b := counter.Batch{Hits: 3}
	b.Done = func(*counter.Batch) { /* a store that takes its time settles here */ }
	if c.Submit(&b) {
		fmt.Println("numbers", b.First, "to", b.First+b.Granted-1)
	}
	count, _ := c.Read(context.Background())
	fmt.Println("count", count)
	// Output:
	// numbers 1 to 3
	// count 3
}
