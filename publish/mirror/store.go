package mirror

// A Store can be read, listed and written, and its objects can be replaced. It cannot delete.
type Store interface {
	Reader
	Lister
	Writer
	Swapper
}
