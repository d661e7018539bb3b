package standin

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

var authorizationText = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([a-z0-9-]+)/([a-z0-9]+)/aws4_request, ?SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})$`)

// Authenticate verifies a request's signature, session token and expiry, and
// returns whose it is. The error is one of AWS's. (AWS General Reference,
// "Create a signed AWS API request"; paths other than `/` are S3's business.)
func (s *STS) Authenticate(r *http.Request, body []byte, service string) (Session, error) {
	forbidden := func(code, message string) stsError { return stsError{http.StatusForbidden, code, message} }
	m := authorizationText.FindStringSubmatch(r.Header.Get("Authorization"))
	if m == nil {
		return Session{}, forbidden("MissingAuthenticationToken", "Request is missing Authentication Token")
	}
	key, day, region, scope, names, signature := m[1], m[2], m[3], m[4], strings.Split(m[5], ";"), m[6]
	session, ok := s.Session(key)
	switch {
	case !ok, r.Header.Get("X-Amz-Security-Token") != session.SessionToken:
		return Session{}, forbidden("InvalidClientTokenId", "The security token included in the request is invalid.")
	case !s.config.Now().Before(session.Expiration):
		return Session{}, forbidden("ExpiredToken", "The security token included in the request is expired")
	}
	stamp := r.Header.Get("X-Amz-Date")
	at, err := time.Parse("20060102T150405Z", stamp)
	switch {
	case err != nil, !strings.HasPrefix(stamp, day), scope != service, !slices.Contains(names, "host"), !slices.Contains(names, "x-amz-date"):
		return Session{}, forbidden("SignatureDoesNotMatch", "Credential should be scoped to correct service and date.")
	case at.Sub(s.config.Now()).Abs() > 15*time.Minute:
		return Session{}, forbidden("SignatureDoesNotMatch", "Signature expired: "+stamp+" is more than 15 minutes from now")
	}
	var canonical strings.Builder
	canonical.WriteString(r.Method + "\n" + r.URL.EscapedPath() + "\n" + strings.ReplaceAll(r.URL.Query().Encode(), "+", "%20") + "\n")
	for _, name := range names {
		value := strings.Join(r.Header.Values(name), ",")
		switch name {
		case "host":
			value = r.Host
		case "content-length": // the server takes it out of the header
			value = strconv.FormatInt(r.ContentLength, 10)
		}
		canonical.WriteString(name + ":" + strings.Join(strings.Fields(value), " ") + "\n")
	}
	canonical.WriteString("\n" + m[5] + "\n" + hash(body))
	text := strings.Join([]string{"AWS4-HMAC-SHA256", stamp, day + "/" + region + "/" + scope + "/aws4_request", hash([]byte(canonical.String()))}, "\n")
	k := []byte("AWS4" + session.SecretAccessKey)
	for _, part := range []string{day, region, scope, "aws4_request", text} {
		mac := hmac.New(sha256.New, k)
		mac.Write([]byte(part))
		k = mac.Sum(nil)
	}
	if !hmac.Equal([]byte(hex.EncodeToString(k)), []byte(signature)) {
		return Session{}, forbidden("SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
	}
	return session, nil
}

func hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
