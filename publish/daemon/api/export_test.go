package api

// Admits says why a peer is not answered.
func (a Allow) Admits(p Peer) error { return a.admits(p) }
