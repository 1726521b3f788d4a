package events_test

import (
	"encoding/json"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/vantagecompute/slurm-factory-publish/publish/events"
)

// s3Record is what S3 sends, without what nobody reads.
func s3Record(event, bucket, name string) string {
	key, _ := json.Marshal(url.QueryEscape(name))
	return `{"eventVersion":"2.1","eventSource":"aws:s3","awsRegion":"us-east-1","eventTime":"2026-11-20T10:00:00.000Z","eventName":"` + event + `",` +
		`"s3":{"s3SchemaVersion":"1.0","configurationId":"indexer","bucket":{"name":"` + bucket + `","arn":"arn:aws:s3:::` + bucket + `"},` +
		`"object":{"key":` + string(key) + `,"size":1024,"eTag":"d41d8cd98f00b204e9800998ecf8427e","sequencer":"0055AED6DCD90281E5"}}}`
}

func records(all ...string) string { return `{"Records":[` + strings.Join(all, ",") + `]}` }

func eventBridge(kind, bucket, name string) string {
	key, _ := json.Marshal(name)
	return `{"version":"0","id":"17793124-05d4-b198-2fde-7ededc63b103","detail-type":"` + kind + `","source":"aws.s3","account":"111122223333","time":"2026-11-20T10:00:00Z",` +
		`"region":"us-east-1","resources":["arn:aws:s3:::` + bucket + `"],"detail":{"version":"0","bucket":{"name":"` + bucket + `"},` +
		`"object":{"key":` + string(key) + `,"size":5,"etag":"b1946ac92492d2347c6235b4d2611184","sequencer":"617f08299329d189"},"reason":"PutObject"}}`
}

func sns(message string) string {
	text, _ := json.Marshal(message)
	return `{"Type":"Notification","MessageId":"m","TopicArn":"arn:aws:sns:us-east-1:111122223333:t","Subject":"Amazon S3 Notification","Message":` + string(text) + `,"Timestamp":"2026-11-20T10:00:00.000Z"}`
}

// Whatever way a notification has come, it tells the same.
func TestStored(t *testing.T) {
	at := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	a, b := events.Object{Bucket: "cache", Name: "noble/spack/a b+c/ü.json", At: at}, events.Object{Bucket: "cache", Name: "build_cache/index.json", At: at}
	one := records(s3Record("ObjectCreated:Put", "cache", a.Name))
	for _, row := range []struct {
		name, message string
		want          []events.Object
	}{
		{"S3", one, []events.Object{a}},
		{"two of S3", records(s3Record("ObjectCreated:CompleteMultipartUpload", "cache", a.Name), s3Record("ObjectCreated:Copy", "cache", b.Name)), []events.Object{a, b}},
		{"through SNS", sns(one), []events.Object{a}},
		{"through SNS twice", sns(sns(one)), []events.Object{a}},
		{"through EventBridge", eventBridge("Object Created", "cache", a.Name), []events.Object{a}},
		{"through EventBridge and SNS", sns(eventBridge("Object Created", "cache", b.Name)), []events.Object{b}},
		{"another S3", strings.ReplaceAll(strings.Replace(one, "aws:s3", "minio:s3", 1), "ObjectCreated:", "s3:ObjectCreated:"), []events.Object{a}},
		{"at a time that nobody can read", strings.Replace(one, `"2026-11-20T10:00:00.000Z"`, `"yesterday"`, 1), []events.Object{{Bucket: "cache", Name: a.Name}}},
		{"with what nobody knows yet", strings.Replace(one, `"size"`, `"future":{"a":[1]},"size"`, 1), []events.Object{a}},
		// What else happens in a bucket is no matter of ours.
		{"deleted", records(s3Record("ObjectRemoved:Delete", "cache", a.Name)), nil},
		{"deleted and stored", records(s3Record("ObjectRemoved:DeleteMarkerCreated", "cache", a.Name), s3Record("ObjectCreated:Put", "cache", b.Name)), []events.Object{b}},
		{"expired", records(s3Record("LifecycleExpiration:Delete", "cache", a.Name)), nil},
		{"deleted, through EventBridge", eventBridge("Object Deleted", "cache", a.Name), nil},
		{"tagged, through EventBridge", eventBridge("Object Tags Added", "cache", a.Name), nil},
		{"the test of S3", `{"Service":"Amazon S3","Event":"s3:TestEvent","Time":"2026-11-20T10:00:00.000Z","Bucket":"cache","RequestId":"r","HostId":"h"}`, nil},
		{"no records", `{"Records":[]}`, nil},
	} {
		got, err := events.Stored([]byte(row.message))
		if err != nil || !reflect.DeepEqual(got, row.want) {
			t.Errorf("%s: %v, %v, want %v", row.name, got, err, row.want)
		}
	}
}

// What is no notification is an error, and not nothing: somebody may have meant it.
func TestNotStored(t *testing.T) {
	one := records(s3Record("ObjectCreated:Put", "cache", "a"))
	for name, message := range map[string]string{
		"empty": "", "text": "hello", "cut": one[:len(one)-20], "null": "null", "list": "[]", "other": `{"a":1}`,
		"of another service":   strings.Replace(one, "aws:s3", "aws:dynamodb", 1),
		"of EventBridge":       strings.Replace(eventBridge("Object Created", "cache", "a"), "aws.s3", "aws.ec2", 1),
		"no bucket":            records(s3Record("ObjectCreated:Put", "", "a")),
		"no name":              records(s3Record("ObjectCreated:Put", "cache", "")),
		"no name, EventBridge": eventBridge("Object Created", "cache", ""),
		"a name of no form":    strings.Replace(one, `"key":"a"`, `"key":"%zz"`, 1),
		"too many envelopes":   sns(sns(sns(sns(one)))),
		"nothing in it":        sns(""),
		"two documents":        one + one,
	} {
		if got, err := events.Stored([]byte(message)); err == nil {
			t.Errorf("%s: no error, %v", name, got)
		}
	}
}

func FuzzStored(f *testing.F) {
	for _, s := range []string{
		records(s3Record("ObjectCreated:Put", "cache", "a b")), sns(records(s3Record("ObjectCreated:Put", "cache", "ä"))),
		eventBridge("Object Created", "cache", "a"), records(), "{}", `{"Records":[{}]}`, `{"Type":"Notification","TopicArn":"t","Message":"{}"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		got, err := events.Stored(message)
		if err != nil && got != nil {
			t.Errorf("%v, and %v", got, err)
		}
		for _, o := range got {
			if o.Bucket == "" || o.Name == "" {
				t.Errorf("object %v", o)
			}
		}
		wrapped, wrappedErr := events.Stored([]byte(sns(string(message))))
		if wrappedErr == nil && (err != nil || !reflect.DeepEqual(got, wrapped)) && utf8.Valid(message) {
			t.Errorf("in an envelope it tells %v, without %v, %v", wrapped, got, err)
		}
	})
}
