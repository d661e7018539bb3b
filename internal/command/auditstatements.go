package command

import (
	"context"
	"strconv"

	"github.com/oidc-dbt/oidc-dbt/internal/auditlog"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
)

const flagStatements = "statements"

// showStatements is `oidc-dbt audit show --statements`.
func showStatements(ctx context.Context, env job.Env, paths []string, o auditlog.Options, asJSON bool) error {
	o.Statements = true
	show := table{out: env.Stdout, headings: []string{"TIME", "TARGET", "ACTOR", "SESSION", "DECISION", "CLASS", "STATEMENT", "LENGTH",
		"SHA-256", "RUN", "REASON"}}
	err := showRecords(ctx, env, paths, o, func(e auditlog.Entry) error {
		switch {
		case !e.Record.IsStatement() || e.Record.Unmapped.Statement == nil:
			return nil
		case asJSON:
			return writeStatement(env, e)
		}
		return show.add(statementCells(&e.Record))
	})
	if err != nil {
		return err
	}
	return show.flush()
}

// statementCells are what the table says of a statement.
func statementCells(r *auditlog.Record) []string {
	s := r.Unmapped.Statement
	row := []string{r.At().Format("2006-01-02 15:04:05Z"), r.Unmapped.Target, r.Actor.User.Name, s.Session, s.Decision, s.Class, s.Head,
		strconv.Itoa(s.Length), s.SHA256, r.Metadata.CorrelationUID, s.Why}
	for i := range row {
		row[i] = cell(row[i])
	}
	return row
}

// A statementView is what --statements --json says of a statement:
// docs/audit-statements.schema.json is its schema.
type statementView struct {
	Version    int       `json:"version"`
	Run        string    `json:"run"`
	Time       string    `json:"time"`
	Target     string    `json:"target,omitempty"`
	Identity   string    `json:"identity,omitempty"`
	Repository string    `json:"repository,omitempty"`
	Actor      string    `json:"actor,omitempty"`
	ActorKind  string    `json:"actor_kind,omitempty"`
	Rule       int       `json:"rule,omitempty"`
	RuleLine   int       `json:"rule_line,omitempty"`
	Session    string    `json:"session,omitempty"`
	Decision   string    `json:"decision"`
	Class      string    `json:"class"`
	Statements int       `json:"statements"`
	Head       string    `json:"head,omitempty"`
	Why        string    `json:"why,omitempty"`
	Length     int       `json:"length"`
	SHA256     string    `json:"sha256,omitempty"`
	Text       string    `json:"text,omitempty"`
	Record     placeView `json:"record"`
}

func writeStatement(env job.Env, e auditlog.Entry) error {
	r, s := e.Record, e.Record.Unmapped.Statement
	v := statementView{
		Version: 1, Run: r.Metadata.CorrelationUID, Time: moment(r.At()), Target: r.Unmapped.Target, Identity: r.Unmapped.Identity,
		Repository: r.Repository(), Actor: r.Actor.User.Name, ActorKind: r.Unmapped.ActorKind, Session: s.Session, Decision: s.Decision,
		Class: s.Class, Statements: s.Count, Head: s.Head, Why: s.Why, Length: s.Length, SHA256: s.SHA256, Text: r.Query.Text,
		Record: placeView{e.File, e.Line},
	}
	if rule := r.Unmapped.Rule; rule != nil {
		v.Rule, v.RuleLine = rule.Number, rule.Line
	}
	line, err := jsonLine(v)
	if err != nil {
		return err
	}
	_, err = env.Stdout.Write(line)
	return err
}
