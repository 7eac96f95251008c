package conformance

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/counterd/counterd/httpparse"
)

// stdCounter is counterd's contract on net/http, as short as it can be: what
// differs from the table is net/http's doing.
type stdCounter struct{ n atomic.Int64 }

func (c *stdCounter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, err := httpparse.CheckTarget([]byte(r.Method), []byte(r.RequestURI))
	if r.ProtoMajor != 1 {
		err = httpparse.ErrMajor
	}
	if refused := (*httpparse.Error)(nil); errors.As(err, &refused) {
		w.Header().Set("Connection", "close")
		http.Error(w, refused.Reason, refused.Status)
		return
	}
	if r.Method == "CONNECT" || r.Method == "TRACE" {
		w.Header().Set("Connection", "close")
		http.Error(w, "not implemented", http.StatusNotImplemented)
		return
	}
	if r.ContentLength > maxBody {
		w.Header().Set("Connection", "close")
		http.Error(w, "too large", http.StatusRequestEntityTooLarge)
		return
	}
	if _, err := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxBody)); err != nil {
		w.Header().Set("Connection", "close")
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			http.Error(w, "too large", http.StatusRequestEntityTooLarge)
			return
		}
		http.Error(w, "bad body", http.StatusBadRequest)
		return
	}
	if string(path) != "/count" {
		fmt.Fprintln(w, c.n.Add(1))
		return
	}
	if r.Method != "GET" && r.Method != "HEAD" {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	fmt.Fprintln(w, c.n.Load())
}

// TestStdColumnIsTrue shows that the table says of Go's net/http what is true.
func TestStdColumnIsTrue(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	counter := &stdCounter{}
	srv := &http.Server{Handler: counter, MaxHeaderBytes: maxHeader, DisableGeneralOptionsHandler: true}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	defer func() {
		srv.Close()
		<-done
	}()
	var count int64
	for _, row := range Rows {
		if err := Check(ln.Addr().String(), row, Server{Std: true}, &count); err != nil {
			t.Errorf("%s: %v\n%.200q", row.Name, err, row.Bytes)
			count = counter.n.Load()
		}
	}
}
