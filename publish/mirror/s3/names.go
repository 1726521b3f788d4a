package s3

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// directoryBucket matches the names of buckets, and of access points to buckets, of S3 Express One Zone.
var directoryBucket = regexp.MustCompile(`--(x|xa)-s3$`)

// CheckBucket refuses buckets that cannot hold a mirror, by their names.
func CheckBucket(name string) error {
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
