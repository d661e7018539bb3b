package setup

import (
	"fmt"
	"net"
	"testing"

	ber "github.com/go-asn1-ber/asn1-ber"
)

// LDAP starts a directory on loopback that knows simple binds only: check decides on a name and its password, and what
// it says against one is for the client's log. (RFC 4511)
func LDAP(t testing.TB, check func(name, password string) error) (port int) {
	t.Helper()
	return Listen(t, func(conn net.Conn) error {
		for {
			request, err := ber.ReadPacket(conn)
			if err != nil {
				return err
			}
			if len(request.Children) < 2 {
				return fmt.Errorf("an LDAP message of %d parts", len(request.Children))
			}
			id, op := request.Children[0].Value, request.Children[1]
			switch {
			case op.ClassType == ber.ClassApplication && op.Tag == ldapUnbind:
				return nil
			case op.ClassType != ber.ClassApplication || op.Tag != ldapBind || len(op.Children) != 3 || op.Children[2].Tag != ldapSimple:
				return fmt.Errorf("LDAP operation %d of %d parts, want a simple bind", op.Tag, len(op.Children))
			}
			code, words := ldapSuccess, ""
			name, password := op.Children[1].Data.String(), op.Children[2].Data.String()
			if password == "" {
				code = unwillingToPerform // it would be an anonymous bind (RFC 4513 §5.1.2)
			} else if err := check(name, password); err != nil {
				code, words = invalidCredentials, err.Error()
			}
			if _, err := conn.Write(bound(id, code, words)); err != nil {
				return err
			}
		}
	})
}

// Tags of operations and of the choice of a simple bind, and codes of results. (RFC 4511 §4.1.9, §4.2, §4.3)
const (
	ldapBind   ber.Tag = 0
	ldapBound  ber.Tag = 1
	ldapUnbind ber.Tag = 2
	ldapSimple ber.Tag = 0

	ldapSuccess        = 0
	invalidCredentials = 49
	unwillingToPerform = 53
)

// bound is the reply to a bind.
func bound(id any, code int, words string) []byte {
	result := ber.Encode(ber.ClassApplication, ber.TypeConstructed, ldapBound, nil, "")
	result.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagEnumerated, code, ""))
	result.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, "", "")) // no other directory
	result.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, words, ""))
	message := ber.NewSequence("")
	message.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, id, ""))
	message.AppendChild(result)
	return message.Bytes()
}
