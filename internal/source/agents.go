package source

// agentVariables are set by AI agents in the commands that they run. Anything
// can set them: they are recorded, and can only refuse.
var agentVariables = []string{"CLAUDECODE", "CURSOR_AGENT", "CODEX_SANDBOX", "CODEX_THREAD_ID", "GEMINI_CLI", "AI_AGENT"}

// AgentHint returns the variable that says that an AI agent may be at work, ""
// for none.
func AgentHint(getenv func(string) string) string {
	for _, name := range agentVariables {
		if isSet(name)(getenv) {
			return name
		}
	}
	return ""
}
