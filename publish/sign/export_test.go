package sign

// SignerOf is what signs for a key.
func SignerOf(k *Key) Signer { return k.signer }
