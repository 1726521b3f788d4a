// Package sessions lets a real S3 server know the sessions of a stand-in for STS.
//
// A real server has accounts of its own, and knows nothing of ours. So what a session may
// send is decided before it, and sent on as the server's own account.
package sessions

import (
	"net/http"
	"net/http/httputil"
	"net/url"

	"github.com/vantagecompute/slurm-factory-publish/publish/session/sessiontest"
	"github.com/vantagecompute/slurm-factory-publish/test/s3server"
)

// Before stands before a server. The signatures of requests are not looked at, but who sends
// them is, for how long that holds, and what it may do.
func Before(server *s3server.Server, sts *sessiontest.Server) (http.Handler, error) {
	target, err := url.Parse(server.Endpoint)
	if err != nil {
		return nil, err
	}
	return sts.Guard(&httputil.ReverseProxy{
		Transport: server.Signed(),
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(target)
			for _, name := range []string{"Authorization", "X-Amz-Date", "X-Amz-Security-Token", "Amz-Sdk-Request", "Amz-Sdk-Invocation-Id"} {
				p.Out.Header.Del(name)
			}
		},
	}), nil
}
