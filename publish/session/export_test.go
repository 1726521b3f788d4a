package session

// Load is Config with an HTTP client of the test's.
var Load = load
