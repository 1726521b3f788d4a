//go:build unchecked

package checksum

// Checked is true where content is hashed.
const Checked = false
