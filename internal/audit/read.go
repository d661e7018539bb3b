package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Past is a decision that a record tells of.
type Past struct {
	ID           string // the record's correlation_uid
	Time         time.Time
	Decision     string // "allowed", "denied"
	Reason       string // of a denial
	Target       string // "" if none was chosen
	Rule, Line   int    // that matched, from 1; 0 for none
	PolicyOrigin string
	PolicySHA256 string
	AgentHint    string
	Claims       map[string]any // that the record keeps
	Absent       []string       // claims that the token is known not to have had
}

// ReadDecision returns the decision in text: a record, or a log of which one
// record is a decision. ok is false if text does not start with a record. kept
// says what records keep of the tokens of a kind, "" where they do not name it.
func ReadDecision(text []byte, kept func(kind string) Identity) (past Past, ok bool, err error) {
	var decisions []Record
	records := 0
	for dec := json.NewDecoder(bytes.NewReader(text)); ; records++ {
		var r Record
		err := dec.Decode(&r)
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && r.ClassUID == statementClassUID && records > 0 {
			continue // statements of a run that has been decided
		}
		if err != nil || r.ClassUID != classUID {
			if records == 0 {
				return Past{}, false, nil
			}
			return Past{}, true, fmt.Errorf("is an audit log until record %d, and then something else", records)
		}
		if r.Unmapped.Decision != "" {
			decisions = append(decisions, r)
		}
	}
	switch {
	case records == 0:
		return Past{}, false, nil
	case len(decisions) == 0:
		return Past{}, true, errors.New("has no decision: it is the line with activity_name \"Preauth\"")
	case len(decisions) > 1:
		return Past{}, true, fmt.Errorf("has %d decisions, want the record of one", len(decisions))
	case decisions[0].Actor.IDP == nil:
		return Past{}, true, errors.New("is the record of a request whose ID token was not verified: it has no claims")
	}
	return decisions[0].past(kept(decisions[0].Unmapped.IdentityKind)), true, nil
}

func (r Record) past(id Identity) Past {
	u := r.Unmapped
	p := Past{
		ID: r.Metadata.CorrelationUID, Time: time.UnixMilli(r.Time).UTC(), Decision: u.Decision, Reason: r.StatusDetail,
		Target: u.Target, PolicyOrigin: u.PolicyOrigin, PolicySHA256: u.PolicySHA256,
		AgentHint: u.AgentHint, Claims: map[string]any{},
	}
	if u.Rule != nil {
		p.Rule, p.Line = u.Rule.Number, u.Rule.Line
	}
	keep := func(claim, value string) {
		if claim != "" && value != "" && !isCut(value) {
			p.Claims[claim] = value
		}
	}
	for claim, value := range u.Claims {
		keep(claim, value)
	}
	keep("sub", r.User.Name)
	keep("iss", r.Actor.IDP.Name)
	keep("aud", u.Audience)
	if r.Actor.Session != nil {
		keep("jti", r.Actor.Session.UID)
	}
	if a := r.Actor.User; a != nil {
		keep(id.ActorName, a.Name)
		keep(id.ActorID, a.UID)
	}
	for _, m := range u.Mismatches { // a denial names claims that no record keeps otherwise
		if value, err := strconv.Unquote(m.Got); err == nil && !derived(m.Claim) && p.Claims[m.Claim] == nil {
			keep(m.Claim, value)
		}
	}
	if act := actsOf(u.Act); act != nil {
		p.Claims["act"] = act
	}
	for _, claim := range id.Claims {
		if _, kept := u.Claims[claim]; !kept {
			p.Absent = append(p.Absent, claim)
		}
	}
	return p
}

// actsOf returns the claim that acting reads the chain from, nil for none.
func actsOf(chain []string) (act map[string]any) {
	for _, subject := range slices.Backward(chain) {
		next := map[string]any{}
		if act != nil {
			next["act"] = act
		}
		if subject != unknownActor && !isCut(subject) {
			next["sub"] = subject
		}
		act = next
	}
	return act
}

func derived(claim string) bool { return slices.Contains([]string{"actor_kind", "pull_number"}, claim) }

// isCut reports whether a value was shortened, by clean or by what showed it.
func isCut(value string) bool { return strings.HasSuffix(value, "…") }
