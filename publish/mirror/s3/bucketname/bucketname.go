// Package bucketname says what buckets may be called. It makes no request.
package bucketname

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// directoryBucket matches the names of buckets, and of access points to buckets, of S3 Express One Zone.
var directoryBucket = regexp.MustCompile(`--(x|xa)-s3$`)

// The names of buckets, by the rules of S3 for general purpose buckets. Aliases of access points, which end in -s3alias, stand for
// buckets and follow them.
var (
	bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]*[a-z0-9]$`)
	address    = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+$`)
	reserved   = regexp.MustCompile(`^(xn--|sthree-)|(-{2}ol-s3|\.mrap|-{2}table-s3)$`)
)

// Check refuses what S3 does not take as the name of a bucket, and buckets that cannot hold a mirror.
func Check(name string) error {
	if _, bucket, ok := strings.Cut(name, ":"); ok { // of a tenant of Ceph
		name = bucket
	}
	switch {
	case len(name) < 3 || len(name) > 63:
		return fmt.Errorf("%q is no name of a bucket: want 3 to 63 characters", name)
	case strings.ToLower(name) != name && Check(strings.ToLower(name)) == nil:
		return fmt.Errorf("%q is no name of a bucket: S3 takes no capitals, did you mean %s?", name, strings.ToLower(name))
	case !bucketName.MatchString(name) || strings.Contains(name, ".."):
		return fmt.Errorf("%q is no name of a bucket: want lower-case letters, digits, hyphens and single dots, with a letter or digit at both ends", name)
	case address.MatchString(name):
		return fmt.Errorf("%q is no name of a bucket but an address: the address of an S3 that is not Amazon's is its endpoint, such as http://%s:9000", name, name)
	case reserved.MatchString(name):
		return fmt.Errorf("%q is no name of a bucket: S3 reserves names that begin or end like this one", name)
	}
	if directoryBucket.MatchString(name) {
		return fmt.Errorf("%s is a directory bucket of S3 Express One Zone, which cannot hold a mirror, because it lists keys in no order: use a general purpose bucket", name)
	}
	return nil
}

var accessPoint = regexp.MustCompile(`^arn:[a-z-]+:s3:([a-z0-9-]*):([0-9]*):accesspoint[:/]([a-zA-Z0-9.-]+)`)

// CheckARN refuses an ARN, which may be followed by a prefix, in the place of a bucket's name, and says which name to
// give instead. Spack cannot read from an ARN.
func CheckARN(name string) error {
	if !strings.HasPrefix(name, "arn:") {
		return nil
	}
	point := accessPoint.FindStringSubmatch(name)
	switch {
	case point == nil:
		return errors.New("an ARN is no name of a bucket, and Spack cannot read from it: give the name of the bucket")
	case point[1] == "":
		return errors.New("a multi-region access point has no alias that is the name of a bucket, and Spack cannot read from it: give the name of one of its buckets")
	}
	return fmt.Errorf("an ARN is no name of a bucket, and Spack cannot read from it: give the alias of the access point, %s-...-s3alias, which `aws s3control get-access-point --region %s --account-id %s --name %s --query Alias` shows",
		point[3], point[1], point[2], point[3])
}
