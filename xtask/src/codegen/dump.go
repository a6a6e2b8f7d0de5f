// Prints the declarations of Go packages as JSON: what `cargo xtask codegen` cannot learn without a Go parser.
//
// Usage: go run dump.go IMPORT_PATH=DIRECTORY ...
// Standard library only, so that it runs outside any module. Comments are reduced to their `+marker` lines.
package main

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
)

type typeExpr struct {
	Kind string    `json:"kind"` // basic, named, pointer, slice, map, struct, other
	Pkg  string    `json:"pkg,omitempty"`
	Name string    `json:"name,omitempty"`
	Elem *typeExpr `json:"elem,omitempty"`
}

type field struct {
	Name     string   `json:"name"`
	Embedded bool     `json:"embedded"`
	Type     typeExpr `json:"type"`
	JSON     string   `json:"json"`
	Protobuf string   `json:"protobuf"`
	Strategy string   `json:"strategy"`
	MergeKey string   `json:"merge_key"`
	Markers  []string `json:"markers"`
}

type typeDecl struct {
	Name    string   `json:"name"`
	Type    typeExpr `json:"type"`
	Fields  []field  `json:"fields"`
	Markers []string `json:"markers"`
}

type constDecl struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	Value string `json:"value"`
	alias string // the constant whose value this one has, as PATH.NAME
}

type pkgDump struct {
	Path   string      `json:"path"`
	Model  string      `json:"model"`
	Types  []typeDecl  `json:"types"`
	Consts []constDecl `json:"consts"`
}

var model = regexp.MustCompile(`\+k8s:openapi-model-package=(\S+)`)

func main() {
	var all []pkgDump
	for _, arg := range os.Args[1:] {
		path, dir, found := strings.Cut(arg, "=")
		if !found {
			fail("not IMPORT_PATH=DIRECTORY: %s", arg)
		}
		all = append(all, dumpPackage(path, dir))
	}
	resolveAliases(all)
	if err := json.NewEncoder(os.Stdout).Encode(all); err != nil {
		fail("writing: %v", err)
	}
}

// resolveAliases gives constants that name another constant its value.
func resolveAliases(all []pkgDump) {
	values := map[string]string{}
	for _, dump := range all {
		for _, value := range dump.Consts {
			values[dump.Path+"."+value.Name] = value.Value
		}
	}
	for i := range all {
		known := all[i].Consts[:0]
		for _, value := range all[i].Consts {
			if value.alias != "" {
				value.Value = values[value.alias]
			}
			// Constants of packages that were not read have no value.
			if value.alias == "" || value.Value != "" {
				known = append(known, value)
			}
		}
		all[i].Consts = known
	}
}

func fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(1)
}

func dumpPackage(path, dir string) pkgDump {
	dump := pkgDump{Path: path}
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		fail("listing %s: %v", dir, err)
	}
	for _, name := range names {
		base := filepath.Base(name)
		if strings.HasSuffix(base, "_test.go") || strings.HasPrefix(base, "generated.") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			fail("parsing %s: %v", name, err)
		}
		for _, group := range file.Comments {
			for _, line := range group.List {
				if found := model.FindStringSubmatch(line.Text); found != nil {
					dump.Model = found[1]
				}
			}
		}
		imports := importNames(file)
		for _, decl := range file.Decls {
			if general, ok := decl.(*ast.GenDecl); ok {
				dump.add(general, imports)
			}
		}
	}
	return dump
}

func importNames(file *ast.File) map[string]string {
	names := map[string]string{}
	for _, spec := range file.Imports {
		path, _ := strconv.Unquote(spec.Path.Value)
		name := path[strings.LastIndex(path, "/")+1:]
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[name] = path
	}
	return names
}

func (dump *pkgDump) add(decl *ast.GenDecl, imports map[string]string) {
	for _, spec := range decl.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			doc := spec.Doc
			if doc == nil {
				doc = decl.Doc
			}
			dump.Types = append(dump.Types, dump.typeOf(spec, doc, imports))
		case *ast.ValueSpec:
			if decl.Tok == token.CONST {
				dump.addConst(spec, imports)
			}
		}
	}
}

func (dump *pkgDump) addConst(spec *ast.ValueSpec, imports map[string]string) {
	typeName := ""
	if ident, ok := spec.Type.(*ast.Ident); ok {
		typeName = ident.Name
	}
	for i, name := range spec.Names {
		if i >= len(spec.Values) {
			return
		}
		value := spec.Values[i]
		if call, ok := value.(*ast.CallExpr); ok && len(call.Args) == 1 {
			if ident, ok := call.Fun.(*ast.Ident); ok {
				typeName, value = ident.Name, call.Args[0]
			}
		}
		entry := constDecl{Name: name.Name, Type: typeName}
		switch value := value.(type) {
		case *ast.BasicLit:
			if value.Kind != token.STRING {
				continue
			}
			entry.Value, _ = strconv.Unquote(value.Value)
		case *ast.Ident:
			entry.alias = dump.Path + "." + value.Name
		case *ast.SelectorExpr:
			if ident, ok := value.X.(*ast.Ident); ok {
				entry.alias = imports[ident.Name] + "." + value.Sel.Name
			}
		default:
			continue
		}
		dump.Consts = append(dump.Consts, entry)
	}
}

func (dump *pkgDump) typeOf(spec *ast.TypeSpec, doc *ast.CommentGroup, imports map[string]string) typeDecl {
	decl := typeDecl{Name: spec.Name.Name, Type: dump.expr(spec.Type, imports), Markers: markers(doc)}
	structType, ok := spec.Type.(*ast.StructType)
	if !ok {
		return decl
	}
	for _, f := range structType.Fields.List {
		tag := reflect.StructTag("")
		if f.Tag != nil {
			text, _ := strconv.Unquote(f.Tag.Value)
			tag = reflect.StructTag(text)
		}
		entry := field{
			Embedded: len(f.Names) == 0,
			Type:     dump.expr(f.Type, imports),
			JSON:     tag.Get("json"),
			Protobuf: tag.Get("protobuf"),
			Strategy: tag.Get("patchStrategy"),
			MergeKey: tag.Get("patchMergeKey"),
			Markers:  markers(f.Doc),
		}
		for _, name := range f.Names {
			entry.Name = name.Name
			decl.Fields = append(decl.Fields, entry)
		}
		if entry.Embedded {
			entry.Name = entry.Type.Name
			decl.Fields = append(decl.Fields, entry)
		}
	}
	return decl
}

func (dump *pkgDump) expr(e ast.Expr, imports map[string]string) typeExpr {
	switch e := e.(type) {
	case *ast.Ident:
		switch e.Name {
		case "string", "bool", "int", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "byte", "float32", "float64", "any":
			return typeExpr{Kind: "basic", Name: e.Name}
		}
		return typeExpr{Kind: "named", Pkg: dump.Path, Name: e.Name}
	case *ast.SelectorExpr:
		return typeExpr{Kind: "named", Pkg: imports[e.X.(*ast.Ident).Name], Name: e.Sel.Name}
	case *ast.StarExpr:
		return dump.wrap("pointer", e.X, imports)
	case *ast.ArrayType:
		return dump.wrap("slice", e.Elt, imports)
	case *ast.MapType:
		return dump.wrap("map", e.Value, imports)
	case *ast.StructType:
		return typeExpr{Kind: "struct"}
	}
	return typeExpr{Kind: "other"}
}

func (dump *pkgDump) wrap(kind string, elem ast.Expr, imports map[string]string) typeExpr {
	inner := dump.expr(elem, imports)
	return typeExpr{Kind: kind, Elem: &inner}
}

func markers(doc *ast.CommentGroup) []string {
	found := []string{}
	if doc == nil {
		return found
	}
	for _, line := range strings.Split(doc.Text(), "\n") {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "+") {
			found = append(found, line[1:])
		}
	}
	// Directive-like lines are left out of Text.
	for _, comment := range doc.List {
		if text, ok := strings.CutPrefix(comment.Text, "//+"); ok {
			found = append(found, strings.TrimSpace(text))
		}
	}
	return found
}
