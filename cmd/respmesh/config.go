package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"respmesh/node"
)

// settingsFile are the lines of a configuration file: the flags' names without dashes, such as
//
//	# ams-1
//	endpoint   = ams.example.org:51820
//	api-listen = [::]:17380
//	log-level  = warn
type settingsFile map[string]string

func readSettings(path string) (settingsFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, node.Usagef("--config: %v", err)
	}
	defer f.Close()
	s := settingsFile{}
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		name = strings.TrimSpace(name)
		if !ok || name == "" {
			return nil, node.Usagef("--config: %s, line %d: want name = value", path, n)
		}
		if _, twice := s[name]; twice {
			return nil, node.Usagef("--config: %s, line %d: %s is given twice", path, n, name)
		}
		s[name] = strings.TrimSpace(value)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// apply sets the flags that weren't given on the command line.
func (s settingsFile) apply(cmd *cobra.Command, path string) error {
	for name, value := range s {
		f := cmd.Flags().Lookup(name)
		if f == nil || name == "config" || name == "help" {
			return node.Usagef("--config: %s: there is no setting %q; see %s --help", path, name, cmd.CommandPath())
		}
		if f.Changed {
			continue
		}
		if err := f.Value.Set(value); err != nil {
			return node.Usagef("--config: %s: %s: %v", path, name, err)
		}
	}
	return nil
}
