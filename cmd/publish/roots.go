package main

// The public certificate authorities, for systems that have none, such as an image made from scratch. The
// system's own authorities, or those that SSL_CERT_FILE names, come first.
import _ "golang.org/x/crypto/x509roots/fallback"
