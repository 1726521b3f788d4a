package reindex

// AlwaysTakeTurns lets publishers take turns for small indices, too, until restore is called.
func AlwaysTakeTurns() (restore func()) {
	was := largeIndex
	largeIndex = 0
	return func() { largeIndex = was }
}
