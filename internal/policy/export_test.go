package policy

// Hidden reports whether a policy may not hold the character.
func Hidden(r rune) bool { return hidden(r) }

// WideSpace reports whether keys and values may not hold the character.
func WideSpace(r rune) bool { return wideSpace(r) }

// CharacterName returns a character's number and name.
func CharacterName(r rune) string { return characterName(r) }

// RuleLines returns the lines of all rules.
func (p *Policy) RuleLines() (lines []int) {
	for _, t := range p.targets {
		for _, r := range t.rules {
			lines = append(lines, r.line)
		}
	}
	return lines
}
