package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"charm.land/huh/v2"
	"golang.org/x/term"

	"respmesh/node"
)

// Questions are asked on the terminal itself rather than on standard output or error, which may lead elsewhere; and only
// if standard input is that terminal. Otherwise the answer has to be a flag, and the error names it.
//
// TERM=dumb or ACCESSIBLE=1 asks line by line, for screen readers and for terminals that can't draw.

var errCancelled = errors.New("cancelled; nothing was changed")

// choice is something to choose, and how it is shown.
type choice struct{ value, label string }

// interactive tells whether somebody is there to answer.
func interactive() bool { return term.IsTerminal(int(os.Stdin.Fd())) }

// ask runs questions one after the other.
func ask(ctx context.Context, fields ...huh.Field) error {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("there is no terminal to ask on: %w", err)
	}
	defer tty.Close()
	accessible := os.Getenv("ACCESSIBLE") != "" || os.Getenv("TERM") == "dumb"
	var in io.Reader = tty
	if accessible {
		in = &byteReader{tty}
	}
	for _, f := range fields {
		err := huh.NewForm(huh.NewGroup(f)).WithInput(in).WithOutput(tty).WithShowHelp(false).WithAccessible(accessible).RunWithContext(ctx)
		switch {
		case errors.Is(err, huh.ErrUserAborted), ctx.Err() != nil:
			return errCancelled
		case err != nil:
			return fmt.Errorf("asking on the terminal: %w", err)
		}
	}
	return nil
}

// byteReader hands out one byte at a time: each question makes a buffered reader of its own, which mustn't take the
// next one's answer along.
type byteReader struct{ *os.File }

func (r *byteReader) Read(p []byte) (int, error) { return r.File.Read(p[:min(1, len(p))]) }

// askText asks for a text, unless there is one; flag is what the error names where nobody can be asked.
func askText(ctx context.Context, value *string, flag, title string, check func(string) error) error {
	if *value != "" {
		return nil
	}
	if !interactive() {
		return missing(flag)
	}
	return ask(ctx, huh.NewInput().Title(title).Value(value).Validate(check))
}

// askOne asks for one of several.
func askOne(ctx context.Context, value *string, flag, title string, choices []choice) error {
	if *value != "" {
		return nil
	}
	if !interactive() {
		return missing(flag)
	}
	return ask(ctx, huh.NewSelect[string]().Title(title).Options(options(choices)...).Height(min(12, len(choices)+2)).Value(value))
}

// askSome asks for any number of several.
func askSome(ctx context.Context, values *[]string, title string, choices []choice) error {
	return ask(ctx, huh.NewMultiSelect[string]().Title(title).Options(options(choices)...).Height(min(12, len(choices)+2)).Value(values))
}

func options(choices []choice) []huh.Option[string] {
	all := make([]huh.Option[string], len(choices))
	for i, c := range choices {
		all[i] = huh.NewOption(c.label, c.value)
	}
	return all
}

// askSecret asks for what isn't to be seen.
func askSecret(ctx context.Context, title string) (string, error) {
	var value string
	err := ask(ctx, huh.NewInput().Title(title).EchoMode(huh.EchoModePassword).Value(&value))
	return value, err
}

// confirm asks for the name of what a command is about to destroy, unless yes was said already. What it does reads on
// after "This", as in "removes node ams from the mesh".
func confirm(ctx context.Context, yes bool, name, does string) error {
	if yes {
		return nil
	}
	if !interactive() {
		return node.Usagef("this %s; give --yes to do so without being asked", does)
	}
	var typed string
	if err := ask(ctx, huh.NewInput().Title(fmt.Sprintf("This %s. Type %s to go on:", does, name)).Value(&typed)); err != nil {
		return err
	}
	if typed != name {
		return fmt.Errorf("%q isn't %s; nothing was changed", typed, name)
	}
	return nil
}

// missing is the error where nobody can be asked.
func missing(flag string) error {
	return node.Usagef("%s is missing, and there is no terminal to ask on", flag)
}
