package mirror

// A Store can be read, listed and written, and what is in it can be replaced. Nothing can be deleted.
type Store interface {
	Reader
	Lister
	Writer
	Swapper
}
