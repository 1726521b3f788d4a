package main

// The public certificate authorities, for where the system has none, as in an image made from
// scratch. Those that the system has, or that SSL_CERT_FILE names, come first.
import _ "golang.org/x/crypto/x509roots/fallback"
