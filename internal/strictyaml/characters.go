package strictyaml

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// hidden reports whether a character has no place in a file, comments
// included: some program takes it for the end of a line and another does not,
// or it shows as nothing, or it changes how the text around it shows. What a
// reviewer sees would not be what the file says.
func hidden(r rune) bool {
	switch {
	case r < 0x7f:
		return r < ' ' && r != '\t' && r != '\n'
	case r < 0xa0, r == '\u2028', r == '\u2029':
		return true
	case r < 0x300:
		return r == '\u00ad'
	case shapes(r):
		return false
	}
	return unicode.In(r, unicode.Cf, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point,
		unicode.Noncharacter_Code_Point) ||
		strings.ContainsRune(blanks, r)
}

// blanks show as nothing, though Unicode counts them among letters and
// symbols: of Braille, of music, of Khitan, of hieroglyphs, and the character
// for an object that is not there.
const blanks = "\u2800\U0001d159\U00016fe4\U00013441\U00013442\ufffc"

// wideSpace reports whether a character shows as a space and is none to YAML
// and to a program that compares: a comment may have it, a key or a value may not.
func wideSpace(r rune) bool { return r > 0x7f && unicode.Is(unicode.Zs, r) }

// shapes reports whether a character only chooses between the two shapes of the
// one before it, as behind ⚠ in most editors: a comment may have it.
func shapes(r rune) bool { return r == '\ufe0e' || r == '\ufe0f' }

// inText adds a fault for each hidden character of the text, and reports
// whether there is none. Line feeds, by themselves or behind a carriage return, end a
// line; nothing else does.
func (d *Document) inText(src []byte) (sound bool) {
	text := strings.TrimPrefix(string(src), "\ufeff")
	line, start := 1, 0
	for i, size := 0, 0; i < len(text) && len(d.faults.list) < maxShown; i += size {
		r := rune(text[i])
		if size = 1; r >= utf8.RuneSelf {
			r, size = utf8.DecodeRuneInString(text[i:])
		}
		column := func() int { return utf8.RuneCountInString(text[start:i]) + 1 }
		switch {
		case r == '\n':
			line, start = line+1, i+1
		case r == utf8.RuneError && size == 1:
			d.add(line, column(), "is not valid UTF-8: byte 0x%02x is not part of a character", text[i])
			return false // in another encoding every character would be a fault
		case hidden(r) && (r != '\r' || !strings.HasPrefix(text[i+1:], "\n")):
			d.add(line, column(), "%s: %s", characterName(r), whyHidden(r))
		}
	}
	return len(d.faults.list) == 0
}

// inScalar reports what a key or a value cannot hold: what an escape in quotes
// hides there, spaces that are none, expressions of workflows.
func (d *Document) inScalar(n *yaml.Node) {
	if strings.Contains(n.Value, "${{") {
		d.reject(n, noExpression, d.format.Noun)
		return
	}
	for _, r := range n.Value {
		switch {
		case r < 0x7f && r >= ' ' || r == '\n' || r == '\t':
		case hidden(r), shapes(r):
			d.reject(n, "contains %s: %s", characterName(r), whyHidden(r))
			return
		case wideSpace(r):
			d.reject(n, "contains %s, which only looks like a space: write a space", characterName(r))
			return
		}
	}
}

// comments returns, by line, the column from which a reader of only that line
// takes it for a comment.
func comments(lines []string) map[int]int {
	found := map[int]int{}
	for i, line := range lines {
		if !strings.Contains(line, "#") {
			continue
		}
		quote, before, column := rune(0), ' ', 0
		for _, r := range line {
			column++
			starts := strings.ContainsRune(" \t[{,:", before) // what a quote may open behind
			switch {
			case quote == 0 && r == '#' && (before == ' ' || before == '\t'):
				found[i+1] = column
			case quote == 0 && (r == '"' || r == '\'') && starts:
				quote = r
			case r == quote && (r == '\'' || before != '\\'):
				quote = 0
			}
			if found[i+1] > 0 {
				break
			}
			before = r
		}
	}
	return found
}

func whyHidden(r rune) string {
	switch {
	case strings.ContainsRune("\r\v\f\x1c\x1d\x1e\u0085\u2028\u2029", r):
		return "a line break to some programs only: remove it, and end lines with LF or CRLF"
	case unicode.IsControl(r):
		return "control characters are not allowed: remove it"
	}
	return "invisible, or changes the order in which text is shown: remove it"
}

// characterName returns a character's number and name.
func characterName(r rune) string {
	number := fmt.Sprintf("U+%04X", r)
	for line := range strings.Lines(characterNames) {
		if name, ok := strings.CutPrefix(line, number[2:]+" "); ok {
			return number + " " + strings.TrimSuffix(name, "\n")
		}
	}
	switch {
	case r >= 0xfe00 && r <= 0xfe0f:
		return fmt.Sprintf("%s VARIATION SELECTOR-%d", number, r-0xfe00+1)
	case r >= 0xe0100 && r <= 0xe01ef:
		return fmt.Sprintf("%s VARIATION SELECTOR-%d", number, r-0xe0100+17)
	case r == 0xe007f:
		return number + " CANCEL TAG"
	case r >= 0xe0041 && r <= 0xe005a:
		return fmt.Sprintf("%s TAG LATIN CAPITAL LETTER %c", number, r-0xe0000)
	case r >= 0xe0061 && r <= 0xe007a:
		return fmt.Sprintf("%s TAG LATIN SMALL LETTER %c", number, r-0xe0000-'a'+'A')
	case r >= 0xe0020 && r < 0xe007f:
		return fmt.Sprintf("%s TAG %q", number, r-0xe0000)
	case unicode.Is(unicode.Noncharacter_Code_Point, r):
		return number + " (not a character)"
	}
	return number + " (an invisible character)"
}

// characterNames are the names of what is refused, by Unicode's UnicodeData.txt
// and, of control characters, NameAliases.txt.
const characterNames = `0000 NULL
0001 START OF HEADING
0002 START OF TEXT
0003 END OF TEXT
0004 END OF TRANSMISSION
0005 ENQUIRY
0006 ACKNOWLEDGE
0007 ALERT
0008 BACKSPACE
0009 CHARACTER TABULATION
000A LINE FEED
000B LINE TABULATION
000C FORM FEED
000D CARRIAGE RETURN
000E SHIFT OUT
000F SHIFT IN
0010 DATA LINK ESCAPE
0011 DEVICE CONTROL ONE
0012 DEVICE CONTROL TWO
0013 DEVICE CONTROL THREE
0014 DEVICE CONTROL FOUR
0015 NEGATIVE ACKNOWLEDGE
0016 SYNCHRONOUS IDLE
0017 END OF TRANSMISSION BLOCK
0018 CANCEL
0019 END OF MEDIUM
001A SUBSTITUTE
001B ESCAPE
001C INFORMATION SEPARATOR FOUR
001D INFORMATION SEPARATOR THREE
001E INFORMATION SEPARATOR TWO
001F INFORMATION SEPARATOR ONE
007F DELETE
0080 PADDING CHARACTER
0081 HIGH OCTET PRESET
0082 BREAK PERMITTED HERE
0083 NO BREAK HERE
0084 INDEX
0085 NEXT LINE
0086 START OF SELECTED AREA
0087 END OF SELECTED AREA
0088 CHARACTER TABULATION SET
0089 CHARACTER TABULATION WITH JUSTIFICATION
008A LINE TABULATION SET
008B PARTIAL LINE FORWARD
008C PARTIAL LINE BACKWARD
008D REVERSE LINE FEED
008E SINGLE SHIFT TWO
008F SINGLE SHIFT THREE
0090 DEVICE CONTROL STRING
0091 PRIVATE USE ONE
0092 PRIVATE USE TWO
0093 SET TRANSMIT STATE
0094 CANCEL CHARACTER
0095 MESSAGE WAITING
0096 START OF GUARDED AREA
0097 END OF GUARDED AREA
0098 START OF STRING
0099 SINGLE GRAPHIC CHARACTER INTRODUCER
009A SINGLE CHARACTER INTRODUCER
009B CONTROL SEQUENCE INTRODUCER
009C STRING TERMINATOR
009D OPERATING SYSTEM COMMAND
009E PRIVACY MESSAGE
009F APPLICATION PROGRAM COMMAND
00A0 NO-BREAK SPACE
00AD SOFT HYPHEN
034F COMBINING GRAPHEME JOINER
0600 ARABIC NUMBER SIGN
0601 ARABIC SIGN SANAH
0602 ARABIC FOOTNOTE MARKER
0603 ARABIC SIGN SAFHA
0604 ARABIC SIGN SAMVAT
0605 ARABIC NUMBER MARK ABOVE
061C ARABIC LETTER MARK
06DD ARABIC END OF AYAH
070F SYRIAC ABBREVIATION MARK
0890 ARABIC POUND MARK ABOVE
0891 ARABIC PIASTRE MARK ABOVE
08E2 ARABIC DISPUTED END OF AYAH
115F HANGUL CHOSEONG FILLER
1160 HANGUL JUNGSEONG FILLER
1680 OGHAM SPACE MARK
17B4 KHMER VOWEL INHERENT AQ
17B5 KHMER VOWEL INHERENT AA
180B MONGOLIAN FREE VARIATION SELECTOR ONE
180C MONGOLIAN FREE VARIATION SELECTOR TWO
180D MONGOLIAN FREE VARIATION SELECTOR THREE
180E MONGOLIAN VOWEL SEPARATOR
180F MONGOLIAN FREE VARIATION SELECTOR FOUR
2000 EN QUAD
2001 EM QUAD
2002 EN SPACE
2003 EM SPACE
2004 THREE-PER-EM SPACE
2005 FOUR-PER-EM SPACE
2006 SIX-PER-EM SPACE
2007 FIGURE SPACE
2008 PUNCTUATION SPACE
2009 THIN SPACE
200A HAIR SPACE
200B ZERO WIDTH SPACE
200C ZERO WIDTH NON-JOINER
200D ZERO WIDTH JOINER
200E LEFT-TO-RIGHT MARK
200F RIGHT-TO-LEFT MARK
2028 LINE SEPARATOR
2029 PARAGRAPH SEPARATOR
202A LEFT-TO-RIGHT EMBEDDING
202B RIGHT-TO-LEFT EMBEDDING
202C POP DIRECTIONAL FORMATTING
202D LEFT-TO-RIGHT OVERRIDE
202E RIGHT-TO-LEFT OVERRIDE
202F NARROW NO-BREAK SPACE
205F MEDIUM MATHEMATICAL SPACE
2060 WORD JOINER
2061 FUNCTION APPLICATION
2062 INVISIBLE TIMES
2063 INVISIBLE SEPARATOR
2064 INVISIBLE PLUS
2066 LEFT-TO-RIGHT ISOLATE
2067 RIGHT-TO-LEFT ISOLATE
2068 FIRST STRONG ISOLATE
2069 POP DIRECTIONAL ISOLATE
206A INHIBIT SYMMETRIC SWAPPING
206B ACTIVATE SYMMETRIC SWAPPING
206C INHIBIT ARABIC FORM SHAPING
206D ACTIVATE ARABIC FORM SHAPING
206E NATIONAL DIGIT SHAPES
206F NOMINAL DIGIT SHAPES
2800 BRAILLE PATTERN BLANK
3000 IDEOGRAPHIC SPACE
3164 HANGUL FILLER
FEFF ZERO WIDTH NO-BREAK SPACE
FFA0 HALFWIDTH HANGUL FILLER
FFF9 INTERLINEAR ANNOTATION ANCHOR
FFFA INTERLINEAR ANNOTATION SEPARATOR
FFFB INTERLINEAR ANNOTATION TERMINATOR
FFFC OBJECT REPLACEMENT CHARACTER
110BD KAITHI NUMBER SIGN
110CD KAITHI NUMBER SIGN ABOVE
13430 EGYPTIAN HIEROGLYPH VERTICAL JOINER
13431 EGYPTIAN HIEROGLYPH HORIZONTAL JOINER
13432 EGYPTIAN HIEROGLYPH INSERT AT TOP START
13433 EGYPTIAN HIEROGLYPH INSERT AT BOTTOM START
13434 EGYPTIAN HIEROGLYPH INSERT AT TOP END
13435 EGYPTIAN HIEROGLYPH INSERT AT BOTTOM END
13436 EGYPTIAN HIEROGLYPH OVERLAY MIDDLE
13437 EGYPTIAN HIEROGLYPH BEGIN SEGMENT
13438 EGYPTIAN HIEROGLYPH END SEGMENT
13439 EGYPTIAN HIEROGLYPH INSERT AT MIDDLE
1343A EGYPTIAN HIEROGLYPH INSERT AT TOP
1343B EGYPTIAN HIEROGLYPH INSERT AT BOTTOM
1343C EGYPTIAN HIEROGLYPH BEGIN ENCLOSURE
1343D EGYPTIAN HIEROGLYPH END ENCLOSURE
1343E EGYPTIAN HIEROGLYPH BEGIN WALLED ENCLOSURE
1343F EGYPTIAN HIEROGLYPH END WALLED ENCLOSURE
13441 EGYPTIAN HIEROGLYPH FULL BLANK
13442 EGYPTIAN HIEROGLYPH HALF BLANK
16FE4 KHITAN SMALL SCRIPT FILLER
1BCA0 SHORTHAND FORMAT LETTER OVERLAP
1BCA1 SHORTHAND FORMAT CONTINUING OVERLAP
1BCA2 SHORTHAND FORMAT DOWN STEP
1BCA3 SHORTHAND FORMAT UP STEP
1D159 MUSICAL SYMBOL NULL NOTEHEAD
1D173 MUSICAL SYMBOL BEGIN BEAM
1D174 MUSICAL SYMBOL END BEAM
1D175 MUSICAL SYMBOL BEGIN TIE
1D176 MUSICAL SYMBOL END TIE
1D177 MUSICAL SYMBOL BEGIN SLUR
1D178 MUSICAL SYMBOL END SLUR
1D179 MUSICAL SYMBOL BEGIN PHRASE
1D17A MUSICAL SYMBOL END PHRASE
E0001 LANGUAGE TAG
`
