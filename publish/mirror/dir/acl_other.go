//go:build !linux

package dir

import "os"

// Default ACLs are supported on Linux only.

func defaultACL(*os.File) ([]byte, error) { return nil, nil }
func inherit(*os.File, []byte) error      { return nil }
func dropInherited(*os.File) error        { return nil }
