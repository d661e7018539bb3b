package setup

import (
	"bytes"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
)

// LDAP starts a directory on loopback that knows simple binds only: check decides on a name and its password, and what
// it says against one is for the client's log. (RFC 4511)
func LDAP(t testing.TB, check func(name, password string) error) (port int) {
	t.Helper()
	return Listen(t, func(conn net.Conn) error {
		for {
			request, err := readLDAP(conn)
			if err != nil || request.op == ldapUnbind {
				return err
			}
			if request.op != ldapBind {
				return fmt.Errorf("LDAP operation %#x, want a bind", request.op)
			}
			reply := ldapReply{ID: request.id}
			if request.password == "" {
				reply.Bind = ldapResult{Code: unwillingToPerform} // it would be an anonymous bind (RFC 4513 §5.1.2)
			} else if err := check(request.name, request.password); err != nil {
				reply.Bind = ldapResult{Code: invalidCredentials, Message: []byte(err.Error())}
			}
			text, err := asn1.Marshal(reply)
			if err != nil {
				return err
			}
			if _, err := conn.Write(text); err != nil {
				return err
			}
		}
	})
}

// Tags of operations and of the choice of a simple bind, and codes of results. (RFC 4511 §4.1.9, §4.2, §4.3)
const (
	ldapBind   = 0x60
	ldapUnbind = 0x42
	ldapSimple = 0x80

	invalidCredentials = 49
	unwillingToPerform = 53
)

type ldapRequest struct {
	id             int
	op             byte
	name, password string
}

type ldapReply struct {
	ID   int
	Bind ldapResult `asn1:"application,tag:1"`
}

type ldapResult struct {
	Code      asn1.Enumerated
	MatchedDN []byte
	Message   []byte
}

func readLDAP(conn io.Reader) (request ldapRequest, err error) {
	_, message, err := element(conn)
	if err != nil {
		return request, err
	}
	in := bytes.NewReader(message)
	_, id, err := element(in)
	if err != nil {
		return request, err
	}
	for _, b := range id {
		request.id = request.id<<8 | int(b)
	}
	op, body, err := element(in)
	if request.op = op; err != nil || op != ldapBind {
		return request, err
	}
	in = bytes.NewReader(body)
	_, _, errVersion := element(in)
	_, name, errName := element(in)
	choice, password, errPassword := element(in)
	if choice != ldapSimple {
		return request, fmt.Errorf("LDAP authentication %#x, want a simple one", choice)
	}
	request.name, request.password = string(name), string(password)
	return request, errors.Join(errVersion, errName, errPassword)
}

// element reads one element of BER, in which a length may have more bytes than DER allows. (X.690 §8.1)
func element(in io.Reader) (tag byte, content []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return 0, nil, err
	}
	size := int(head[1])
	if size >= 0x80 {
		long := make([]byte, size-0x80)
		if _, err := io.ReadFull(in, long); err != nil {
			return 0, nil, err
		}
		size = 0
		for _, b := range long {
			size = min(size<<8|int(b), maxElement+1)
		}
	}
	if size > maxElement {
		return 0, nil, fmt.Errorf("an element of more than %d bytes", maxElement)
	}
	content = make([]byte, size)
	_, err = io.ReadFull(in, content)
	return head[0], content, err
}

const maxElement = 1 << 17 // PostgreSQL takes passwords of up to 64 KiB
