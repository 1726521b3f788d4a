package s3test

import (
	"encoding/xml"
	"net/http"
	"slices"
)

// deleteObjects deletes up to 1,000 objects, each of which may have a condition of its own.
func (s *Server) deleteObjects(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		Object []struct{ Key, ETag string }
	}
	if err := xml.NewDecoder(r.Body).Decode(&asked); err != nil || len(asked.Object) == 0 || len(asked.Object) > 1000 {
		s.violate(r, "no list of 1 to 1,000 objects")
		fail(w, r, 400, "MalformedXML")
		return
	}
	type refusal struct{ Key, Code, Message string }
	var answer struct {
		XMLName xml.Name  `xml:"DeleteResult"`
		Error   []refusal `xml:"Error"`
	}
	s.mu.Lock()
	for _, o := range asked.Object {
		there := s.objects[o.Key]
		switch {
		case o.ETag == "" && !s.opts.Unconditional:
			s.violations = append(s.violations, "DeleteObjects of "+o.Key+": a write without a condition")
			answer.Error = append(answer.Error, refusal{o.Key, "AccessDenied", ""})
		case there != nil && o.ETag != "" && o.ETag != there.etag && !slices.Contains(s.opts.Ignores, "If-Match"):
			answer.Error = append(answer.Error, refusal{o.Key, "PreconditionFailed", ""})
		default:
			s.remove(o.Key)
		}
	}
	s.mu.Unlock()
	writeXML(w, 200, answer)
}
