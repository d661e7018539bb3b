package standin

import (
	"crypto/rand"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// KeyUser is the IAM user of the keys that SetKey makes active.
const KeyUser = "arn:aws:iam::123456789012:user/dbt-old"

// A call is a request that a Store has let through.
type call struct {
	at                         time.Time
	session                    Session
	id, event, bucket, object  string
	sourceIPAddress, userAgent string
}

func newCall(r *http.Request, session Session) call {
	bucket, object, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	return call{at: time.Now(), session: session, id: rand.Text(), bucket: bucket, object: object,
		event: s3Event(r.Method, r.URL.Path, r.URL.Query()), sourceIPAddress: host, userAgent: r.UserAgent()}
}

// s3Event is CloudTrail's name of a request.
// (S3 User Guide, Amazon S3 object-level actions that are tracked by CloudTrail)
func s3Event(method, path string, query url.Values) string {
	event := strings.TrimPrefix(s3Action(method, path, query)[0], "s3:")
	switch {
	case query.Has("partNumber"):
		return "UploadPart"
	case method == http.MethodPost && query.Has("uploads"):
		return "CreateMultipartUpload"
	case method == http.MethodPost && query.Has("uploadId"):
		return "CompleteMultipartUpload"
	case method == http.MethodHead && event == "GetObject":
		return "HeadObject"
	case method == http.MethodHead && event == "ListBucket":
		return "HeadBucket"
	case event == "ListBucket":
		return "ListObjects"
	}
	return event
}

// Trail returns the requests that were let through, oldest first, as CloudTrail
// has them in a file of data events.
// (CloudTrail User Guide, CloudTrail record contents; CloudTrail userIdentity element)
func (s *Store) Trail() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	records := []map[string]any{}
	for _, c := range s.calls {
		identity := map[string]any{"type": "IAMUser", "arn": c.session.SessionARN, "accessKeyId": c.session.AccessKeyID}
		if role := c.session.RoleARN; role != "" {
			identity["type"] = "AssumedRole"
			identity["sessionContext"] = map[string]any{"sessionIssuer": map[string]any{"type": "Role", "arn": role}}
		}
		records = append(records, map[string]any{
			"eventVersion": "1.11", "eventTime": c.at.UTC().Format(time.RFC3339), "eventID": c.id,
			"eventSource": "s3.amazonaws.com", "eventName": c.event, "userIdentity": identity,
			"requestParameters": map[string]any{"bucketName": c.bucket, "key": c.object},
			"sourceIPAddress":   c.sourceIPAddress, "userAgent": c.userAgent,
		})
	}
	text, err := json.MarshalIndent(map[string]any{"Records": records}, "", " ")
	if err != nil {
		panic(err) // our own types
	}
	return text
}
