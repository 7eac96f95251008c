package pgtest

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Fault is what a Proxy does with a query and its answer.
type Fault int

// The stages of a query at which a connection can die, or stand still.
const (
	Pass          Fault = iota // forward it, and the answer
	CutBefore                  // cut both sides before the query arrives
	CutQuery                   // cut both sides in the middle of the query
	CutUnanswered              // forward the query, wait for the whole answer, cut without passing it on
	CutAnswer                  // pass on half of the answer, cut
	CutAtOnce                  // forward the query, cut both sides at once: it may be still running
	LoseQuery                  // swallow the query, keep the connections open
	LoseAnswer                 // forward the query, swallow the answer, keep the connections open
	Slow                       // forward it and the answer, each after SlowBy
	Stages                     // how many faults there are
)

// SlowBy is the latency that Slow adds in each direction.
const SlowBy = 20 * time.Millisecond

func (f Fault) String() string {
	return [...]string{"pass", "cut before", "cut in the query", "cut unanswered", "cut in the answer", "cut at once", "lose the query", "lose the answer", "slow"}[f]
}

// Proxy stands between a client and a server, understands where messages of
// PostgreSQL's protocol begin and end (without TLS), and does harm at chosen
// places.
type Proxy struct {
	ln     net.Listener
	target func() string
	fault  func(sql string) Fault
	wg     sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	shut  bool
}

// NewProxy starts a proxy in front of the address that target returns at the
// time of each connection. fault is asked about every simple query, perhaps
// from several goroutines. The proxy ends with the test.
func NewProxy(tb testing.TB, target func() string, fault func(sql string) Fault) *Proxy {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	p := &Proxy{ln: ln, target: target, fault: fault, conns: map[net.Conn]struct{}{}}
	p.wg.Go(p.accept)
	tb.Cleanup(p.Close)
	return p
}

// Addr is where the proxy listens.
func (p *Proxy) Addr() string { return p.ln.Addr().String() }

// Close ends the proxy and all its connections.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.shut = true
	p.mu.Unlock()
	p.ln.Close()
	p.CutAll()
	p.wg.Wait()
}

// CutAll cuts every connection.
func (p *Proxy) CutAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}

func (p *Proxy) accept() {
	for {
		client, err := p.ln.Accept()
		if err != nil {
			return
		}
		server, err := net.DialTimeout("tcp", p.target(), 5*time.Second)
		if err != nil {
			client.Close()
			continue
		}
		if !p.keep(client, server) {
			return
		}
		l := &link{p: p, client: client, server: server}
		p.wg.Go(l.requests)
		p.wg.Go(l.answers)
	}
}

// keep notes the connections, so that they can be cut.
func (p *Proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		if p.shut {
			c.Close()
		} else {
			p.conns[c] = struct{}{}
		}
	}
	return !p.shut
}

// link is a pair of connections.
type link struct {
	p              *Proxy
	client, server net.Conn

	mu    sync.Mutex
	fault Fault // for the answer that is to come
}

func (l *link) cut() {
	l.client.Close()
	l.server.Close()
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	delete(l.p.conns, l.client)
	delete(l.p.conns, l.server)
}

func (l *link) requests() {
	defer l.cut()
	startup := true // the first message has no type byte
	var buf []byte
	for {
		var err error
		if buf, err = readMessage(l.client, buf[:0], startup); err != nil {
			return
		}
		fault := Pass
		if !startup && buf[0] == 'Q' {
			fault = l.p.fault(string(buf[5 : len(buf)-1]))
			l.mu.Lock()
			l.fault = fault
			l.mu.Unlock()
		}
		startup = false
		if err := l.request(buf, fault); err != nil {
			return
		}
	}
}

var errCut = errors.New("cut on purpose")

func (l *link) request(msg []byte, fault Fault) error {
	switch fault {
	case CutBefore:
		return errCut
	case CutQuery:
		_, _ = l.server.Write(msg[:len(msg)/2])
		return errCut
	case CutAtOnce:
		_, _ = l.server.Write(msg)
		return errCut
	case LoseQuery:
		return nil
	case Slow:
		time.Sleep(SlowBy)
	}
	_, err := l.server.Write(msg)
	return err
}

// answers passes on what comes up to each ReadyForQuery, as a whole.
func (l *link) answers() {
	defer l.cut()
	var answer []byte
	for {
		start := len(answer)
		var err error
		if answer, err = readMessage(l.server, answer, false); err != nil {
			_, _ = l.client.Write(answer) // a last word before the server closed
			return
		}
		// Authentication needs the client's reply before the server is ready.
		if t := answer[start]; t != 'Z' && t != 'R' {
			continue
		}
		l.mu.Lock()
		fault := l.fault
		if answer[start] == 'Z' {
			l.fault = Pass
		}
		l.mu.Unlock()
		switch fault {
		case CutUnanswered:
			return
		case CutAnswer:
			_, _ = l.client.Write(answer[:len(answer)/2])
			return
		case LoseAnswer:
			answer = answer[:0]
			continue
		case Slow:
			time.Sleep(SlowBy)
		}
		if _, err := l.client.Write(answer); err != nil {
			return
		}
		answer = answer[:0]
	}
}

// readMessage appends one message to buf.
func readMessage(r io.Reader, buf []byte, startup bool) ([]byte, error) {
	head := 5
	if startup {
		head = 4
	}
	start := len(buf)
	buf = append(buf, make([]byte, head)...)
	if _, err := io.ReadFull(r, buf[start:]); err != nil {
		return buf[:start], err
	}
	n := int(binary.BigEndian.Uint32(buf[start+head-4:])) - 4
	if n < 0 || n > 1<<24 {
		return buf[:start], errors.New("not PostgreSQL's protocol")
	}
	body := len(buf)
	buf = append(buf, make([]byte, n)...)
	if _, err := io.ReadFull(r, buf[body:]); err != nil {
		return buf[:start], err
	}
	return buf, nil
}
