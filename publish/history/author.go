package history

import "context"

type authorKey struct{}

// By returns a context in which an index is replaced on behalf of an author.
func By(ctx context.Context, a Author) context.Context { return context.WithValue(ctx, authorKey{}, a) }

// AuthorOf returns the author in a context.
func AuthorOf(ctx context.Context) Author {
	a, _ := ctx.Value(authorKey{}).(Author)
	return a
}
