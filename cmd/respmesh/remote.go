package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"respmesh/netconf"
	"respmesh/netconf/api"
	"respmesh/node"
)

// remote is how a command reaches the control API: a flag, else the environment, else what is usual.
type remote struct {
	api, pin, tokenFile, org string
	json                     bool
}

// bind gives a command and those below it the flags that every command of the API has.
func (r *remote) bind(cmd *cobra.Command) *cobra.Command {
	f := cmd.PersistentFlags()
	f.StringVar(&r.api, "api", "", "address of the control API (default: $RESPMESH_API, else "+api.DefaultURL+")")
	f.StringVar(&r.pin, "api-pin", "", "SHA-256 of the API's public key, base64, as the node printed it (default: $RESPMESH_API_PIN)")
	f.StringVar(&r.tokenFile, "token-file", "", "file with the token, readable by you alone (default: $RESPMESH_TOKEN, else "+tokenFileHint+")")
	f.BoolVarP(&r.json, "json", "j", false, "print JSON")
	return cmd
}

// bindOrg adds --org where a command needs one.
func (r *remote) bindOrg(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&r.org, "org", "o", "", "organisation (default: $RESPMESH_ORG, else the only one)")
	_ = cmd.RegisterFlagCompletionFunc("org", r.completeOrgs)
}

const tokenFileHint = "~/.config/respmesh/token"

// tokenPath is where the token is looked for if nothing else is said.
func tokenPath() string {
	dir, err := os.UserConfigDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "respmesh", "token")
}

// client makes the client of the API.
func (r *remote) client() (*api.Client, error) {
	token, err := r.token()
	if err != nil {
		return nil, err
	}
	where := firstOf(r.api, os.Getenv("RESPMESH_API"), api.DefaultURL)
	c, err := api.NewClient(api.ClientOptions{
		URL: where, Pin: firstOf(r.pin, os.Getenv("RESPMESH_API_PIN")), Token: token, UserAgent: "respmesh/" + buildVersion(),
	})
	if err != nil {
		return nil, node.Usagef("--api: %v", err)
	}
	return c, nil
}

// token takes the token from the environment or from a file that nobody else can read.
func (r *remote) token() (string, error) {
	if t := strings.TrimSpace(os.Getenv("RESPMESH_TOKEN")); t != "" && r.tokenFile == "" {
		return t, nil
	}
	path := firstOf(r.tokenFile, os.Getenv("RESPMESH_TOKEN_FILE"))
	asked := path != ""
	if !asked {
		path = tokenPath()
	}
	token, err := readSecret(path)
	if errors.Is(err, fs.ErrNotExist) && !asked {
		return "", nil // on loopback `dev` asks for none, and others say so
	}
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	return token, nil
}

// readSecret reads a small file. It refuses one that others can read: the secret is theirs too by then.
func readSecret(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s isn't a file", path)
	case info.Mode().Perm()&0o077 != 0:
		return "", fmt.Errorf("%s can be read or written by others (mode %04o): run chmod 600 %s, and make another token if the machine has other users", path, info.Mode().Perm(), path)
	}
	raw, err := io.ReadAll(io.LimitReader(f, 4097))
	if err != nil {
		return "", err
	}
	secret := strings.TrimSpace(string(raw))
	if secret == "" || len(raw) > 4096 || strings.ContainsAny(secret, " \t\r\n") {
		return "", fmt.Errorf("%s doesn't hold one token", path)
	}
	return secret, nil
}

// orgName finds the org, or says what is missing: flag, environment, the only one there is, or the answer of whoever is asked.
func (r *remote) orgName(ctx context.Context, c *api.Client, missing string) (string, error) {
	if org := firstOf(r.org, os.Getenv("RESPMESH_ORG")); org != "" {
		return org, nil
	}
	orgs, err := c.Orgs(ctx)
	if err != nil {
		return "", err
	}
	switch len(orgs) {
	case 0:
		return "", errors.New("there is no org yet; make one with: respmesh orgs create NAME")
	case 1:
		return orgs[0].Name, nil
	}
	names, choices := make([]string, len(orgs)), make([]choice, len(orgs))
	for i, o := range orgs {
		names[i], choices[i] = o.Name, choice{o.Name, o.Name}
	}
	if !interactive() {
		return "", node.Usagef("%s is missing; it is one of %s", missing, strings.Join(names, ", "))
	}
	var org string
	err = askOne(ctx, &org, "--org", "Organisation", choices)
	return org, err
}

// database finds the database that a command is about: NAME or ORG/NAME; without one it asks.
func (r *remote) database(ctx context.Context, c *api.Client, args []string) (api.Database, error) {
	org := firstOf(r.org, os.Getenv("RESPMESH_ORG"))
	name := ""
	if len(args) > 0 {
		name = args[0]
		if before, after, ok := strings.Cut(name, "/"); ok {
			if r.org != "" && r.org != before {
				return api.Database{}, node.Usagef("--org %s contradicts %s", r.org, name)
			}
			org, name = before, after
			if err := netconf.ValidateName(org); err != nil {
				return api.Database{}, node.Usagef("org: %v", err)
			}
		}
		if err := netconf.ValidateName(name); err != nil {
			return api.Database{}, node.Usagef("%v", err)
		}
		if org != "" {
			return c.Database(ctx, org, name)
		}
	} else if !interactive() {
		return api.Database{}, node.Usagef("the name of the database is missing: NAME or ORG/NAME; respmesh redis list shows what there is")
	}
	all, err := c.Databases(ctx, org)
	if err != nil {
		return api.Database{}, err
	}
	var found []api.Database
	var where []string
	for _, d := range all {
		if name == "" || d.Name == name {
			found, where = append(found, d), append(where, d.Org+"/"+d.Name)
		}
	}
	switch {
	case len(found) == 0 && name == "":
		return api.Database{}, errors.New("there is no database yet; make one with: respmesh redis create")
	case len(found) == 0:
		return api.Database{}, fmt.Errorf("there is no database %s; respmesh redis list shows what there is", name)
	case len(found) == 1 && name != "":
		return found[0], nil
	case !interactive():
		return api.Database{}, node.Usagef("--org is missing: there is %s", strings.Join(where, ", "))
	}
	choices := make([]choice, len(found))
	for i, w := range where {
		choices[i] = choice{w, fmt.Sprintf("%s (%s)", w, strings.Join(append([]string{found[i].Primary}, found[i].ReadRegions...), ", "))}
	}
	var chosen string
	if err := askOne(ctx, &chosen, "NAME", "Database", choices); err != nil {
		return api.Database{}, err
	}
	for i, w := range where {
		if w == chosen {
			return found[i], nil
		}
	}
	return api.Database{}, errCancelled
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// atMost refuses more positional arguments than a command takes.
func atMost(n int, usage string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > n {
			return node.Usagef("%s takes %s, got %q too", cmd.CommandPath(), usage, args[n])
		}
		return nil
	}
}

// exactly wants as many positional arguments as it names.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return node.Usagef("%s is missing: %s", names[len(args)], cmd.UseLine())
		}
		if len(args) > len(names) {
			return node.Usagef("%s takes %s, got %q too", cmd.CommandPath(), strings.Join(names, " "), args[len(names)])
		}
		return nil
	}
}

// family is a command that only holds others.
func family(use, short, long string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return node.Usagef("unknown command %q; see %s --help", args[0], cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(commands...)
	return cmd
}

// run wraps what every command of the API begins with.
func (r *remote) run(do func(cmd *cobra.Command, c *api.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, err := r.client()
		if err != nil {
			return err
		}
		defer c.Close()
		return explainFailure(do(cmd, c, args))
	}
}

// explainFailure adds what only the command line knows: where the token comes from, and that what the API calls
// invalid was typed.
func explainFailure(err error) error {
	var told *api.Error
	if unknown, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fmt.Errorf("%w; a node's API is known by its pin: give --api-pin or set RESPMESH_API_PIN to what the node printed", unknown)
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%w; is a node or respmesh dev running there? --api or RESPMESH_API says where to ask", err)
	}
	if !errors.As(err, &told) {
		return err
	}
	switch told.Code {
	case api.CodeUnauthorized:
		return fmt.Errorf("%w; put the token into $RESPMESH_TOKEN or %s", err, tokenFileHint)
	case api.CodeInvalid:
		return node.Usagef("%v", err) // what was typed is wrong
	}
	return err
}

// said ends a command that has nothing to show but that it did what it was asked.
func (r *remote) said(cmd *cobra.Command, status, name, sentence string) error {
	if r.json {
		return printJSON(cmd.OutOrStdout(), map[string]string{"status": status, "name": name})
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), sentence)
	return err
}

// nonNil makes an empty list [] in JSON rather than null.
func nonNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}
