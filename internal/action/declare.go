package action

import (
	"strings"

	"github.com/oidc-dbt/oidc-dbt/internal/job"
)

// The names of the inputs.
const (
	inTarget           = "target"
	inPolicy           = "policy"
	inProjectDir       = "project-dir"
	inProfiles         = "profiles"
	inRun              = "run"
	inShell            = "shell"
	inWorkingDirectory = "working-directory"
	inKeepFresh        = "keep-fresh"
	inExportEnv        = "export-env"
	inAuditLog         = "audit-log"
	inDryRun           = "dry-run"
	inProfileOnly      = "profile-only"
	inTimeout          = "timeout"
)

// The names of the outputs.
const (
	outTarget                = "target"
	outType                  = "type"
	outProfilesDir           = "profiles-dir"
	outProfile               = "profile"
	outExpiresAt             = "expires-at"
	outSubject               = "subject"
	outDecision              = "decision"
	outAuditLog              = "audit-log"
	outToken                 = "token"
	outUser                  = "user"
	outPassword              = "password"
	outPrivateKey            = "private-key"
	outAWSAccessKeyID        = "aws-access-key-id"
	outAWSSecretAccessKey    = "aws-secret-access-key"
	outAWSSessionToken       = "aws-session-token"
	outAWSProfile            = "aws-profile"
	outAWSCredentialsFile    = "aws-credentials-file"
	outGoogleCredentialsFile = "google-credentials-file"
	outEnv                   = "env"
)

// An Input is one input of the action.
type Input struct {
	Name string
	// Default is what the runner fills in where the input is left out; "" for nothing.
	Default string
	// Otherwise says what happens without the input where that is no fixed value.
	Otherwise   string
	Description string // one sentence without a full stop, plain text but for `code`
}

// An Output is one output of the action.
type Output struct {
	Name        string
	Secret      bool // masked before it is written
	Description string
}

// Inputs returns the inputs in the order of the documentation.
func Inputs() []Input {
	return []Input{
		{Name: inTarget, Otherwise: "chosen by the claims", Description: "The target in the policy"},
		{Name: inPolicy, Default: job.DefaultPolicy,
			Description: "A path from the workspace's root, or the policy itself (anything with more than one line)"},
		{Name: inProjectDir, Default: ".",
			Description: "Where `dbt_project.yml` is; its `profile:` names the profile that is written; several lines for several projects"},
		{Name: inProfiles, Description: "Further profile names that get the same output, one per line; " +
			"required if there is no `dbt_project.yml`"},
		{Name: inRun, Description: "A command to run in this step with the credential, in `project-dir`"},
		{Name: inShell, Otherwise: "`bash`, on Windows `pwsh`", Description: "The shell for `run`, as in a workflow"},
		{Name: inWorkingDirectory, Otherwise: "`project-dir`", Description: "Where `run` runs"},
		{Name: inKeepFresh, Default: "false",
			Description: "Keep the credential fresh in the background until the job ends, for every later step (implies `export-env`)"},
		{Name: inExportEnv, Default: "false", Description: "Also put what the profile reads into `GITHUB_ENV`, for every later step"},
		{Name: inAuditLog, Otherwise: "`$RUNNER_TEMP/oidc-dbt/audit.jsonl`",
			Description: "The file that audit records are appended to, outside the workspace"},
		{Name: inDryRun, Default: "false", Description: "Verify and decide, but exchange nothing and write no credential"},
		{Name: inProfileOnly, Default: "false",
			Description: "Request no ID token and write the profile with placeholders in place of logins, for `dbt parse`, " +
				"`dbt ls` and linters, also on pull requests from forks; `target` is required, and nothing is decided"},
		{Name: inTimeout, Default: strings.TrimSuffix(job.DefaultTimeout.String(), "0s"),
			Description: "Time limit for everything before `run`, such as `90s` or `2m`"},
	}
}

// Outputs returns the outputs that today's providers give, in the order of the documentation.
func Outputs() []Output {
	return []Output{
		{Name: outTarget, Description: "The target in the policy"},
		{Name: outType, Description: "dbt's adapter type; empty for a target that provides only credentials"},
		{Name: outProfilesDir, Description: "The folder of the written `profiles.yml`, for `DBT_PROFILES_DIR`"},
		{Name: outProfile, Description: "The name of the profile, of the first project"},
		{Name: outExpiresAt, Description: "When the credential expires, or with `keep-fresh` until when it is kept fresh, in RFC 3339"},
		{Name: outSubject, Description: "The verified subject of the ID token"},
		{Name: outDecision, Description: "`allowed` or `denied`, also written when the step fails; " +
			"empty if nothing was decided, for example with an invalid policy"},
		{Name: outAuditLog, Description: "The file that audit records were appended to"},
		{Name: outToken, Secret: true, Description: "The ID token or access token, for `DBT_ENV_SECRET_OIDC_TOKEN`"},
		{Name: outUser, Description: "The database user that the credential is for"},
		{Name: outPassword, Secret: true, Description: "Its password, for `DBT_ENV_SECRET_OIDC_PASSWORD`"},
		{Name: outPrivateKey, Secret: true,
			Description: "Its private key (PKCS#8 DER in base64, one line), for `DBT_ENV_SECRET_OIDC_PRIVATE_KEY`"},
		{Name: outAWSAccessKeyID, Secret: true, Description: "For `AWS_ACCESS_KEY_ID`"},
		{Name: outAWSSecretAccessKey, Secret: true, Description: "For `AWS_SECRET_ACCESS_KEY`"},
		{Name: outAWSSessionToken, Secret: true, Description: "For `AWS_SESSION_TOKEN`"},
		{Name: outAWSProfile, Description: "The profile of an AWS session in `aws-credentials-file`, for `AWS_PROFILE`: the target's name"},
		{Name: outAWSCredentialsFile,
			Description: "For `AWS_SHARED_CREDENTIALS_FILE`: one file with a profile for each such step of the job, " +
				"valid until the job ends; with `keep-fresh` rewritten before each expiry"},
		{Name: outGoogleCredentialsFile,
			Description: "With `keep-fresh`: the file for `GOOGLE_APPLICATION_CREDENTIALS`, valid until the job ends"},
		{Name: outEnv, Secret: true, Description: "A JSON object with every variable that the profile and the SDKs need, " +
			"for the dbt step's `env:`, through `fromJSON`"},
	}
}
