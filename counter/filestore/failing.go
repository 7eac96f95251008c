package filestore

// Failing says why a hit would fail now, while reads are answered; nil: it wouldn't.
func (p *Periodic) Failing() error {
	if p.overdue.Load() {
		return ErrOverdue
	}
	return nil
}
