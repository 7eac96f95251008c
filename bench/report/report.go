package report

import (
	"io"

	"github.com/counterd/counterd/bench/lab"
)

func Write(r *lab.Results, dir string) error { return nil }
func Print(w io.Writer, r *lab.Results)      {}
func Compare(w io.Writer, a, b *lab.Results) {}
