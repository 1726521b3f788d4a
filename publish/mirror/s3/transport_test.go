package s3

import "net/http"

type transport = http.Transport
