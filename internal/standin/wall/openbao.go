package wall

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/ext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// openBaoRole is a CEL role of OpenBao's JWT auth method.
type openBaoRole struct {
	CELProgram struct {
		Variables  []celVariable `json:"variables"`
		Expression string        `json:"expression"`
	} `json:"cel_program"`
	BoundAudiences commaTexts `json:"bound_audiences"`
}

type celVariable struct {
	Name       string `json:"name"`
	Expression string `json:"expression"`
}

// A celStep is a variable of a program, or its last expression, "".
type celStep struct {
	name    string
	program cel.Program
}

// OpenBaoCEL reads a CEL role: the JSON of `bao write auth/PATH/cel/role/NAME
// -`, or what `bao read -format=json` prints. It admits whom the program gives
// a pb.Auth; false, a text, any other value and an error refuse, true
// included. Expressions are parsed and not checked, so that both sides of a
// condition may have other types. OpenBao runs the program when the role is
// written, with the claims sub, aud and iss only, and refuses a role whose
// program fails then.
func OpenBaoCEL(role []byte) (Wall, error) {
	var r openBaoRole
	if err := readVault(role, &r); err != nil {
		return nil, err
	}
	if r.CELProgram.Expression == "" {
		return nil, errors.New("cel_program.expression cannot be empty")
	}
	env, err := openBaoEnv()
	if err != nil {
		return nil, err
	}
	var steps []celStep
	for _, v := range append(r.CELProgram.Variables, celVariable{Expression: r.CELProgram.Expression}) {
		parsed, issues := env.Parse(v.Expression)
		if issues.Err() != nil {
			return nil, fmt.Errorf("cel_program %s: %w", v.Name, issues.Err())
		}
		program, err := env.Program(parsed)
		if err != nil {
			return nil, fmt.Errorf("cel_program %s: %w", v.Name, err)
		}
		steps = append(steps, celStep{v.Name, program})
	}
	trial := map[string]any{"sub": "email@example.com", "aud": "audience", "iss": "issuer"}
	if _, err := runCEL(steps, trial); err != nil {
		return nil, fmt.Errorf("failed to validate CEL program: %w", err)
	}
	return func(claims map[string]any) (bool, error) {
		if len(r.BoundAudiences) > 0 && !anyIn(r.BoundAudiences, values(claims["aud"])) {
			return false, nil
		}
		out, err := runCEL(steps, plain(claims))
		return err == nil && out.Type().TypeName() == "pb.Auth", nil
	}, nil
}

func runCEL(steps []celStep, claims any) (out ref.Val, err error) {
	data := map[string]any{"claims": claims, "now": time.Now(), "operation": "update"}
	for _, step := range steps {
		if out, _, err = step.program.Eval(data); err != nil {
			return nil, err
		}
		if step.name != "" {
			data[step.name] = out.Value()
		}
	}
	return out, nil
}

// openBaoEnv has the libraries of OpenBao's sdk/helper/cel, and pb.Auth.
func openBaoEnv() (*cel.Env, error) {
	auth, err := authDescriptor()
	if err != nil {
		return nil, err
	}
	return cel.NewEnv(cel.TypeDescs(auth), cel.OptionalTypes(),
		ext.Strings(), ext.Lists(), ext.Regex(), ext.Math(), ext.Sets(), ext.Encoders())
}

// openBaoFields are the fields of messages of OpenBao's sdk/plugin/pb that a
// program may make: type, name and number, * for a list.
var openBaoFields = map[string][]string{
	"Auth": {
		"LeaseOptions lease_options 1", "string internal_data 2", "string display_name 3", "string policies 4 *",
		"Auth.MetadataEntry metadata 5 *", "string client_token 6", "string accessor 7", "int64 period 8", "int64 num_uses 9",
		"string entity_id 10", "Alias alias 11", "Alias group_aliases 12 *", "string bound_cidrs 13 *",
		"string token_policies 14 *", "string identity_policies 15 *", "int64 explicit_max_ttl 16", "uint32 token_type 17",
		"bool no_default_policy 18",
	},
	"LeaseOptions":  {"int64 TTL 1", "bool renewable 2", "int64 increment 3", "int64 MaxTTL 5"},
	"Alias":         {"string mount_type 1", "string mount_accessor 2", "string name 3"},
	"MetadataEntry": {"string key 1", "string value 2"},
}

func authDescriptor() (protoreflect.FileDescriptor, error) {
	entry := openBaoMessage("MetadataEntry")
	entry.Options = &descriptorpb.MessageOptions{MapEntry: proto.Bool(true)}
	auth := openBaoMessage("Auth")
	auth.NestedType = []*descriptorpb.DescriptorProto{entry}
	return protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("backend.proto"), Package: proto.String("pb"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{auth, openBaoMessage("LeaseOptions"), openBaoMessage("Alias")},
	}, new(protoregistry.Files))
}

func openBaoMessage(name string) *descriptorpb.DescriptorProto {
	m := &descriptorpb.DescriptorProto{Name: &name}
	for _, line := range openBaoFields[name] {
		words := strings.Fields(line)
		number, _ := strconv.ParseInt(words[2], 10, 32)
		f := &descriptorpb.FieldDescriptorProto{
			Name: &words[1], Number: proto.Int32(int32(number)), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
		}
		if len(words) == 4 {
			f.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
		}
		if kind, scalar := descriptorpb.FieldDescriptorProto_Type_value["TYPE_"+strings.ToUpper(words[0])]; scalar {
			f.Type = descriptorpb.FieldDescriptorProto_Type(kind).Enum()
		} else {
			f.Type = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum()
			f.TypeName = proto.String(".pb." + words[0])
		}
		m.Field = append(m.Field, f)
	}
	return m
}
