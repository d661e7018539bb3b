package wall

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/env"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/ext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/timestamppb"
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
// included. Its error is what OpenBao refuses when the role is written, after
// a check of types in which both sides of a condition may have other ones;
// OpenBao's own check_valid_email, encode_json and decode_json are unknown here.
func OpenBaoCEL(role []byte) (Wall, error) {
	var r openBaoRole
	if err := readVault(role, &r); err != nil {
		return nil, err
	}
	if r.CELProgram.Expression == "" {
		return nil, errors.New("cel_program.expression cannot be empty")
	}
	steps, err := compileOpenBao(append(r.CELProgram.Variables, celVariable{Expression: r.CELProgram.Expression}))
	if err != nil {
		return nil, err
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

// compileOpenBao parses the expressions of a program, and checks the types of
// the last one. What runs has not been checked.
func compileOpenBao(variables []celVariable) ([]celStep, error) {
	env, err := openBaoEnv()
	if err != nil {
		return nil, err
	}
	var steps []celStep
	for i, v := range variables {
		parsed, issues := env.Parse(v.Expression)
		if issues.Err() == nil && i == len(variables)-1 {
			_, issues = env.Check(parsed)
		}
		if issues.Err() != nil {
			return nil, fmt.Errorf("cel_program %q: %w", v.Name, issues.Err())
		}
		program, err := env.Program(parsed)
		if err != nil {
			return nil, fmt.Errorf("cel_program %q: %w", v.Name, err)
		}
		steps = append(steps, celStep{v.Name, program})
		if v.Name != "" {
			if env, err = env.Extend(cel.Variable(v.Name, cel.DynType)); err != nil {
				return nil, fmt.Errorf("cel_program %q: %w", v.Name, err)
			}
		}
	}
	return steps, nil
}

// openBaoEnv has the libraries of OpenBao's sdk/helper/cel, pb.Auth, and a
// condition that may be of two types.
func openBaoEnv() (*cel.Env, error) {
	messages, err := openBaoTypes()
	if err != nil {
		return nil, err
	}
	condition := cel.StdLibSubset(&env.LibrarySubset{
		ExcludeFunctions: []*env.Function{env.NewFunction(operators.Conditional)},
	})
	either := []*cel.Type{cel.BoolType, cel.TypeParamType("A"), cel.TypeParamType("B")}
	return cel.NewCustomEnv(cel.StdLib(condition), cel.TypeDescs(messages...), cel.OptionalTypes(),
		cel.Function(operators.Conditional, cel.Overload("either", either, cel.DynType)),
		ext.Strings(), ext.Lists(), ext.Regex(), ext.Math(), ext.Sets(), ext.Encoders(),
		cel.Variable("claims", cel.MapType(cel.StringType, cel.DynType)), cel.Variable("now", cel.TimestampType),
		cel.Variable("operation", cel.StringType))
}

// openBaoFields are the fields of the messages of OpenBao's sdk that a program
// may make: type, name and number, * for a list.
var openBaoFields = map[string][]string{
	"Auth": {
		"pb.LeaseOptions lease_options 1", "string internal_data 2", "string display_name 3", "string policies 4 *",
		"pb.Auth.MetadataEntry metadata 5 *", "string client_token 6", "string accessor 7", "int64 period 8",
		"int64 num_uses 9", "string entity_id 10", "logical.Alias alias 11", "logical.Alias group_aliases 12 *", "string bound_cidrs 13 *",
		"string token_policies 14 *", "string identity_policies 15 *", "int64 explicit_max_ttl 16", "uint32 token_type 17",
		"bool no_default_policy 18",
	},
	"LeaseOptions": {
		"int64 TTL 1", "bool renewable 2", "int64 increment 3", "google.protobuf.Timestamp issue_time 4", "int64 MaxTTL 5",
	},
	"Alias":         {"string mount_type 1", "string mount_accessor 2", "string name 3"},
	"MetadataEntry": {"string key 1", "string value 2"},
}

// openBaoTypes describes pb.Auth, and what it may have.
func openBaoTypes() ([]any, error) {
	entry := openBaoMessage("MetadataEntry")
	entry.Options = &descriptorpb.MessageOptions{MapEntry: proto.Bool(true)}
	auth := openBaoMessage("Auth")
	auth.NestedType = []*descriptorpb.DescriptorProto{entry}
	known := new(protoregistry.Files)
	logical, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("identity.proto"), Package: proto.String("logical"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{openBaoMessage("Alias")},
	}, known)
	if err != nil {
		return nil, err
	}
	for _, file := range []protoreflect.FileDescriptor{logical, timestamppb.File_google_protobuf_timestamp_proto} {
		if err := known.RegisterFile(file); err != nil {
			return nil, err
		}
	}
	pb, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("backend.proto"), Package: proto.String("pb"), Syntax: proto.String("proto3"),
		Dependency:  []string{"identity.proto", "google/protobuf/timestamp.proto"},
		MessageType: []*descriptorpb.DescriptorProto{auth, openBaoMessage("LeaseOptions")},
	}, known)
	return []any{logical, pb}, err
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
			f.TypeName = proto.String("." + words[0])
		}
		m.Field = append(m.Field, f)
	}
	return m
}
