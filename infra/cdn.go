package infra

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscertificatemanager"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudfront"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/jsii-runtime-go"

	"github.com/vantagecompute/slurm-factory-publish/infra/policy"
)

const (
	// pointerTTL is how long an edge keeps an object that came without Cache-Control,
	// such as what `spack buildcache push` writes. The publisher's pointers say for
	// themselves how short they live, and the minimum of 0 lets them.
	pointerTTL = 24 * 60 * 60
	// foreverTTL is CloudFront's usual maximum, a year.
	foreverTTL = 365 * 24 * 60 * 60
	// errorTTL is short: a client that asks for a package just before it is published
	// must not make the edge deny it for long after.
	errorTTL = 5
	// missingPage is what people see who follow a link to nothing. Programs look at the status.
	missingPage = "/404.html"
)

// newDistribution is the public face of the bucket: read-only, and the only way in.
func newDistribution(stack awscdk.Stack, c Config, bucket awss3.IBucket, certificate awscertificatemanager.ICertificate) awscloudfront.Distribution {
	origin := newOrigin(stack, c, bucket)
	headers := newResponseHeaders(stack, c)
	blobs := blobBehavior(origin, newBlobCachePolicy(stack, c), headers)
	props := &awscloudfront.DistributionProps{
		Comment:         jsii.String("CDN for slurm-factory Spack binary cache"),
		DefaultBehavior: pointerBehavior(origin, newPointerCachePolicy(stack, c), headers),
		AdditionalBehaviors: &map[string]*awscloudfront.BehaviorOptions{
			// A mirror may lie at the root or below any prefix.
			"/blobs/*":  blobs,
			"*/blobs/*": blobs,
		},
		ErrorResponses: &[]*awscloudfront.ErrorResponse{
			{HttpStatus: jsii.Number(403), Ttl: seconds(errorTTL)},
			// The page that publish catalog writes. Where there is none, the answer is a 404 all the same.
			{HttpStatus: jsii.Number(404), ResponseHttpStatus: jsii.Number(404), ResponsePagePath: jsii.String(missingPage), Ttl: seconds(errorTTL)},
		},
		HttpVersion:              awscloudfront.HttpVersion_HTTP2_AND_3,
		EnableIpv6:               jsii.Bool(true),
		PriceClass:               priceClass(c.PriceClass),
		PublishAdditionalMetrics: jsii.Bool(c.Alarms),
	}
	if c.QueryStrings != QueryListing {
		// The origin may list the bucket, so that what is missing is a 404. Without a
		// root object, a request for / would be that listing.
		props.DefaultRootObject = jsii.String("index.html")
	}
	if c.WebACLArn != "" {
		props.WebAclId = jsii.String(c.WebACLArn)
	}
	if certificate != nil {
		props.DomainNames = jsii.Strings(c.Domain)
		props.Certificate = certificate
		props.MinimumProtocolVersion = awscloudfront.SecurityPolicyProtocol_TLS_V1_2_2021
	}
	distribution := awscloudfront.NewDistribution(stack, jsii.String("Distribution"), props)
	for _, st := range readableBy(*bucket.BucketArn(), policy.Condition{"StringEquals": {"aws:SourceArn": {*distribution.DistributionArn()}}}) {
		bucket.AddToResourcePolicy(statement(st))
	}
	return distribution
}

// pointerBehavior serves what may change: indices, manifests, keys, release files.
func pointerBehavior(origin awscloudfront.IOrigin, cache awscloudfront.ICachePolicy, headers awscloudfront.IResponseHeadersPolicy) *awscloudfront.BehaviorOptions {
	return &awscloudfront.BehaviorOptions{
		Origin:                origin,
		CachePolicy:           cache,
		ResponseHeadersPolicy: headers,
		// S3 answers a preflight itself and must see what it asks for.
		OriginRequestPolicy:  awscloudfront.OriginRequestPolicy_CORS_S3_ORIGIN(),
		ViewerProtocolPolicy: awscloudfront.ViewerProtocolPolicy_REDIRECT_TO_HTTPS,
		AllowedMethods:       awscloudfront.AllowedMethods_ALLOW_GET_HEAD_OPTIONS(),
		CachedMethods:        awscloudfront.CachedMethods_CACHE_GET_HEAD(),
		Compress:             jsii.Bool(true),
	}
}

// blobBehavior serves what is named by its content and so never changes. Blobs are
// compressed already; compressing again would only cost the strong ETag.
func blobBehavior(origin awscloudfront.IOrigin, cache awscloudfront.ICachePolicy, headers awscloudfront.IResponseHeadersPolicy) *awscloudfront.BehaviorOptions {
	b := pointerBehavior(origin, cache, headers)
	b.Compress = jsii.Bool(false)
	return b
}

// newPointerCachePolicy obeys what an object says of itself.
func newPointerCachePolicy(stack awscdk.Stack, c Config) awscloudfront.ICachePolicy {
	return awscloudfront.NewCachePolicy(stack, jsii.String("BuildcacheCachePolicy"), &awscloudfront.CachePolicyProps{
		CachePolicyName:            jsii.String("spack-buildcache-policy-" + c.suffix()),
		Comment:                    jsii.String("Pointers: each follows its own Cache-Control"),
		MinTtl:                     seconds(0),
		DefaultTtl:                 seconds(pointerTTL),
		MaxTtl:                     seconds(foreverTTL),
		QueryStringBehavior:        queryStrings(c.QueryStrings),
		HeaderBehavior:             awscloudfront.CacheHeaderBehavior_None(),
		CookieBehavior:             awscloudfront.CacheCookieBehavior_None(),
		EnableAcceptEncodingGzip:   jsii.Bool(true),
		EnableAcceptEncodingBrotli: jsii.Bool(true),
	})
}

// newBlobCachePolicy keeps a blob for a year unless it says otherwise.
func newBlobCachePolicy(stack awscdk.Stack, c Config) awscloudfront.ICachePolicy {
	return awscloudfront.NewCachePolicy(stack, jsii.String("BlobCachePolicy"), &awscloudfront.CachePolicyProps{
		CachePolicyName:     jsii.String("spack-buildcache-blobs-" + c.suffix()),
		Comment:             jsii.String("Blobs: named by content, so immutable"),
		MinTtl:              seconds(0),
		DefaultTtl:          seconds(foreverTTL),
		MaxTtl:              seconds(foreverTTL),
		QueryStringBehavior: awscloudfront.CacheQueryStringBehavior_None(),
		HeaderBehavior:      awscloudfront.CacheHeaderBehavior_None(),
		CookieBehavior:      awscloudfront.CacheCookieBehavior_None(),
	})
}

func queryStrings(q QueryStrings) awscloudfront.CacheQueryStringBehavior {
	switch q {
	case QueryAll:
		return awscloudfront.CacheQueryStringBehavior_All()
	case QueryListing:
		return awscloudfront.CacheQueryStringBehavior_AllowList(jsii.String("list-type"), jsii.String("prefix"),
			jsii.String("delimiter"), jsii.String("continuation-token"), jsii.String("start-after"), jsii.String("max-keys"))
	}
	return awscloudfront.CacheQueryStringBehavior_None()
}

// newResponseHeaders lets scripts of any site read the cache and keeps browsers from
// taking a package for a page.
func newResponseHeaders(stack awscdk.Stack, c Config) awscloudfront.IResponseHeadersPolicy {
	return awscloudfront.NewResponseHeadersPolicy(stack, jsii.String("BuildcacheCorsResponseHeadersPolicy"), &awscloudfront.ResponseHeadersPolicyProps{
		ResponseHeadersPolicyName: jsii.String("spack-buildcache-cors-" + c.suffix()),
		Comment:                   jsii.String("CORS for browsers of the public Spack buildcache"),
		CorsBehavior: &awscloudfront.ResponseHeadersCorsBehavior{
			AccessControlAllowCredentials: jsii.Bool(false),
			AccessControlAllowHeaders:     jsii.Strings("*"),
			AccessControlAllowMethods:     jsii.Strings("GET", "HEAD", "OPTIONS"),
			AccessControlAllowOrigins:     jsii.Strings("*"),
			AccessControlExposeHeaders:    exposedHeaders(),
			AccessControlMaxAge:           awscdk.Duration_Hours(jsii.Number(1)),
			OriginOverride:                jsii.Bool(true),
		},
		SecurityHeadersBehavior: &awscloudfront.ResponseSecurityHeadersBehavior{
			ContentTypeOptions: &awscloudfront.ResponseHeadersContentTypeOptions{Override: jsii.Bool(true)},
			FrameOptions: &awscloudfront.ResponseHeadersFrameOptions{
				FrameOption: awscloudfront.HeadersFrameOption_DENY, Override: jsii.Bool(true),
			},
			StrictTransportSecurity: &awscloudfront.ResponseHeadersStrictTransportSecurity{
				AccessControlMaxAge: seconds(foreverTTL), Override: jsii.Bool(true),
			},
		},
	})
}

func priceClass(name string) awscloudfront.PriceClass {
	switch name {
	case "200":
		return awscloudfront.PriceClass_PRICE_CLASS_200
	case "All":
		return awscloudfront.PriceClass_PRICE_CLASS_ALL
	}
	return awscloudfront.PriceClass_PRICE_CLASS_100
}

func seconds(n int) awscdk.Duration { return awscdk.Duration_Seconds(jsii.Number(n)) }
