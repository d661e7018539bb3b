package strictyaml

// Hidden reports whether a file may not hold the character.
func Hidden(r rune) bool { return hidden(r) }

// WideSpace reports whether keys and values may not hold the character.
func WideSpace(r rune) bool { return wideSpace(r) }

// CharacterName returns a character's number and name.
func CharacterName(r rune) string { return characterName(r) }
