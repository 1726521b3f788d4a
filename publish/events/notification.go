package events

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// An Object is an object that was stored in a bucket.
type Object struct {
	Bucket, Name string
	At           time.Time // when it was stored; zero if unknown
}

// maxWraps is the maximum number of envelopes of a notification: a topic behind a topic, and EventBridge.
const maxWraps = 4

// notification is a message of S3, of EventBridge, or the envelope in which SNS puts either. The members of the
// other forms are empty.
type notification struct {
	// S3:
	Records []struct {
		EventSource string `json:"eventSource"`
		EventName   string `json:"eventName"`
		EventTime   string `json:"eventTime"`
		S3          struct {
			Bucket struct {
				Name string `json:"name"`
			} `json:"bucket"`
			Object struct {
				Key string `json:"key"` // form-encoded: %XX, and + for a space
			} `json:"object"`
		} `json:"s3"`
	} `json:"Records"`
	// S3, once when notifications are configured:
	Service string `json:"Service"`
	Event   string `json:"Event"`
	// EventBridge
	Source     string `json:"source"`
	DetailType string `json:"detail-type"`
	Time       string `json:"time"`
	Detail     struct {
		Bucket struct {
			Name string `json:"name"`
		} `json:"bucket"`
		Object struct {
			Key string `json:"key"` // not encoded
		} `json:"object"`
	} `json:"detail"`
	// SNS
	Type     string `json:"Type"`
	TopicARN string `json:"TopicArn"`
	Message  string `json:"Message"`
}

// Stored returns the objects that a message reports as stored. A message about any other event in a bucket has
// none. The error means that the message is not about a bucket, or cannot be read.
func Stored(message []byte) ([]Object, error) {
	for range maxWraps {
		var n notification
		if err := json.Unmarshal(message, &n); err != nil {
			return nil, fmt.Errorf("not a notification: %w", err)
		}
		switch {
		case n.Type == "Notification" && n.TopicARN != "":
			message = []byte(n.Message)
		case n.Records != nil:
			return n.records()
		case n.Source == "aws.s3":
			return n.event()
		case n.Service == "Amazon S3" && n.Event == "s3:TestEvent":
			return nil, nil
		default:
			return nil, errors.New("not a notification of S3, EventBridge or SNS")
		}
	}
	return nil, fmt.Errorf("in more than %d envelopes", maxWraps)
}

func (n *notification) records() ([]Object, error) {
	var objects []Object
	for _, r := range n.Records {
		if !strings.HasSuffix(r.EventSource, ":s3") { // aws:s3, or the name of another implementation
			return nil, fmt.Errorf("notification of %q, not of S3", r.EventSource)
		}
		if !strings.HasPrefix(strings.TrimPrefix(r.EventName, "s3:"), "ObjectCreated:") {
			continue
		}
		name, err := url.QueryUnescape(r.S3.Object.Key)
		if err != nil {
			return nil, fmt.Errorf("notification of object %q: %w", r.S3.Object.Key, err)
		}
		objects = append(objects, Object{r.S3.Bucket.Name, name, moment(r.EventTime)})
	}
	return complete(objects)
}

func (n *notification) event() ([]Object, error) {
	if n.DetailType != "Object Created" {
		return nil, nil
	}
	return complete([]Object{{n.Detail.Bucket.Name, n.Detail.Object.Key, moment(n.Time)}})
}

// moment parses a time that is used for display and metrics only. A time that cannot be read is zero.
func moment(text string) time.Time {
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}
	}
	return at.UTC()
}

func complete(objects []Object) ([]Object, error) {
	for _, o := range objects {
		if o.Bucket == "" || o.Name == "" {
			return nil, errors.New("notification without a bucket or an object")
		}
	}
	return objects, nil
}
