package blob

import "io"

// Stream reads a source once, from its beginning.
func Stream(s Source) (io.ReadCloser, error) {
	r, err := s.Open()
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(r, 0, s.Size()), r}, nil
}
