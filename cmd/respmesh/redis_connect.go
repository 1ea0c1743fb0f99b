package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"respmesh/cmd/respmesh/shell"
	"respmesh/netconf/api"
	"respmesh/node"
	"respmesh/resp/frame"
)

// connectTime bounds the first exchange with the database.
const connectTime = 15 * time.Second

type connection struct {
	port    int
	portSet bool
	user    string
	builtin bool
}

func redisConnect(r *remote) *cobra.Command {
	var o connection
	cmd := &cobra.Command{
		Use: "connect [DATABASE] [-- COMMAND [ARG ...]]", Short: "Open a prompt on a database",
		Long: `Open redis-cli on a database, or where there is none a prompt of our own. What follows --
is run instead of a prompt.

The password is taken from $RESPMESH_PASSWORD or $REDISCLI_AUTH; if the database wants
one and there is none, it is asked for. It is never part of a command line.`,
		Example: `  respmesh redis connect demo
  respmesh redis connect demo -- GET k`,
		ValidArgsFunction: r.completeDatabases,
		RunE: r.run(func(cmd *cobra.Command, c *api.Client, args []string) error {
			var command []string
			if at := cmd.ArgsLenAtDash(); at >= 0 {
				args, command = args[:at], args[at:]
			}
			if len(args) > 1 {
				return node.Usagef("%s takes one database, got %q too; put a command behind --", cmd.CommandPath(), args[1])
			}
			o.portSet = cmd.Flags().Changed("port")
			db, err := r.database(cmd.Context(), c, args)
			if err != nil {
				return err
			}
			return o.run(cmd, c, db, command)
		}),
	}
	r.bindOrg(cmd)
	f := cmd.Flags()
	f.IntVarP(&o.port, "port", "p", defaultPort, "loopback port for redis-cli; 0 picks a free one (default: 16379, or a free one if that is taken)")
	f.Lookup("port").DefValue = "0"
	f.StringVarP(&o.user, "user", "u", "", "user of the database (default: default)")
	f.BoolVar(&o.builtin, "builtin", false, "the prompt of our own, also where there is redis-cli")
	return cmd
}

func (o *connection) run(cmd *cobra.Command, c *api.Client, db api.Database, command []string) error {
	ctx := cmd.Context()
	dial := func(ctx context.Context) (net.Conn, error) { return c.Connect(ctx, db.Org, db.Name) }
	password, err := findPassword(ctx, dial, o.user, db)
	if err != nil {
		return err
	}
	if path, err := exec.LookPath("redis-cli"); err == nil && !o.builtin {
		return o.redisCLI(cmd, path, dial, password, command)
	}
	prompt := shell.Options{
		Dial: dial, User: o.user, Password: password, Prompt: db.Org + "/" + db.Name + "> ",
		In: cmd.InOrStdin(), Out: cmd.OutOrStdout(), Terminal: -1,
		Human: isTerminal(cmd.OutOrStdout()),
	}
	if len(command) > 0 {
		return shell.RunCommand(ctx, prompt, command)
	}
	if interactive() {
		prompt.Terminal, prompt.Human = int(os.Stdin.Fd()), true
		prompt.History = shell.OpenHistory(historyPath())
		fmt.Fprintf(cmd.ErrOrStderr(), "Connected to database %s of org %s. Tab completes; help and quit are commands.\n", db.Name, db.Org)
	}
	err = shell.Run(ctx, prompt)
	if prompt.History != nil {
		err = errors.Join(err, prompt.History.Save())
	}
	return err
}

// redisCLI runs redis-cli on a port of loopback that leads to the database for as long as it runs.
func (o *connection) redisCLI(cmd *cobra.Command, path string, dial func(context.Context) (net.Conn, error), password string, command []string) error {
	p, err := listenProxy(o.port, dial)
	if errors.Is(err, errPortTaken) && !o.portSet {
		p, err = listenProxy(0, dial) // nobody is told this port but redis-cli
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(cmd.Context())
	served := make(chan error, 1)
	go func() {
		served <- p.serve(ctx, func(err error) { fmt.Fprintf(cmd.ErrOrStderr(), "respmesh: %v\n", err) })
	}()
	host, _, _ := net.SplitHostPort(p.addresses()[0])
	args := []string{"-h", host, "-p", strconv.Itoa(p.port)}
	if o.user != "" {
		args = append(args, "--user", o.user)
	}
	client := exec.CommandContext(cmd.Context(), path, append(args, command...)...)
	client.Stdin, client.Stdout, client.Stderr = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
	client.Env = clientEnv(os.Environ(), password)
	client.Cancel = func() error { return client.Process.Signal(syscall.SIGINT) } // so that it leaves the terminal in order
	client.WaitDelay = 2 * time.Second
	err = client.Run()
	cancel()
	if serr := <-served; serr != nil && err == nil {
		err = serr
	}
	var exit *exec.ExitError
	switch {
	case cmd.Context().Err() != nil:
		return nil // Ctrl-C is how one leaves
	case errors.As(err, &exit):
		return fmt.Errorf("redis-cli ended with exit status %d", exit.ExitCode())
	}
	return err
}

// clientEnv is our environment without our own secrets, and with the password where redis-cli looks for it.
func clientEnv(environ []string, password string) []string {
	var env []string
	for _, v := range environ {
		name, _, _ := strings.Cut(v, "=")
		switch name {
		case "REDISCLI_AUTH", "RESPMESH_PASSWORD", "RESPMESH_TOKEN", "RESPMESH_ENGINE_PASSWORD":
		default:
			env = append(env, v)
		}
	}
	if password != "" {
		env = append(env, "REDISCLI_AUTH="+password)
	}
	return env
}

// findPassword tries what the environment has, and asks if the database wants a password and there is none.
func findPassword(ctx context.Context, dial func(context.Context) (net.Conn, error), user string, db api.Database) (string, error) {
	password := firstOf(os.Getenv("RESPMESH_PASSWORD"), os.Getenv("REDISCLI_AUTH"))
	refused, err := try(ctx, dial, user, password)
	switch {
	case err != nil:
		return "", fmt.Errorf("database %s/%s: %w", db.Org, db.Name, err)
	case refused == "":
		return password, nil
	case password != "":
		return "", fmt.Errorf("database %s/%s: %s (the password is that of $RESPMESH_PASSWORD or $REDISCLI_AUTH; respmesh redis reset makes another)", db.Org, db.Name, refused)
	case !interactive():
		return "", node.Usagef("database %s/%s wants a password: put it into $RESPMESH_PASSWORD; there is no terminal to ask on", db.Org, db.Name)
	}
	if password, err = askSecret(ctx, "Password of "+db.Org+"/"+db.Name); err != nil {
		return "", err
	}
	if refused, err = try(ctx, dial, user, password); err == nil && refused != "" {
		err = errors.New(refused)
	}
	if err != nil {
		return "", fmt.Errorf("database %s/%s: %w", db.Org, db.Name, err)
	}
	return password, nil
}

// try connects once, and says how the database refuses us: with NOAUTH, or with what it says to user and password. Any
// other error reply is for the prompt to show.
func try(ctx context.Context, dial func(context.Context) (net.Conn, error), user, password string) (refused string, err error) {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	conn, err := dial(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	reader := frame.NewReader(conn)
	if password != "" {
		err := shell.Auth(conn, reader, user, password)
		var said *shell.AuthError
		if errors.As(err, &said) {
			return said.Reply, nil
		}
		return "", err
	}
	if _, err := conn.Write(frame.AppendCommandString(nil, "PING")); err != nil {
		return "", err
	}
	var reply frame.Reply
	if err := reader.ReadReply(&reply); err != nil {
		return "", fmt.Errorf("the connection ended before an answer came: %w", err)
	}
	if text := string(reply.Text()); reply.IsError() && strings.HasPrefix(text, "NOAUTH") {
		return text, nil
	}
	return "", nil
}

// historyPath is where the prompt keeps what was typed.
func historyPath() string {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "respmesh", "history")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".local", "state", "respmesh", "history")
}

func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
