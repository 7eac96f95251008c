package filestore

// Failing is why a hit would fail now, while reads are answered; nil: it wouldn't.
func (p *Periodic) Failing() error {
	p.Lock()
	defer p.Unlock()
	if p.ended == nil && p.overdue {
		return ErrOverdue
	}
	return p.ended
}
