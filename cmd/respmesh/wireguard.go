package main

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"respmesh/netconf"
	"respmesh/netconf/api"
	"respmesh/node"
)

func newWireGuard() *cobra.Command {
	r := &remote{}
	return r.bind(family("wireguard", "Create, list and remove the peers of an org", `A peer is a machine or a person in an org's private network. Its private key is made here
and never leaves this machine; the control plane only knows the public one.`,
		wireguardCreate(r), wireguardList(r), wireguardRemove(r), wireguardReset(r)))
}

// peerFile is where the configuration goes, and whose key it has.
type peerFile struct {
	path      string
	publicKey string
}

func (p *peerFile) bind(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&p.path, "file", "f", "", "write the configuration here, readable by you alone; a file that is there is never overwritten (default: standard output)")
	cmd.Flags().StringVar(&p.publicKey, "public-key", "", "use this key, whose private half you have; the configuration comes without one")
}

func wireguardCreate(r *remote) *cobra.Command {
	var file peerFile
	cmd := &cobra.Command{
		Use: "create [ORG] [REGION] [NAME]", Short: "Add a peer and print its WireGuard configuration",
		Args: atMost(3, "an org, a region and a name"), ValidArgsFunction: r.completePeerArgs(true),
		Example: `  respmesh wireguard create shop mad laptop --file shop.conf
  wg-quick up ./shop.conf`,
		RunE: r.run(func(cmd *cobra.Command, c *api.Client, args []string) error {
			ctx := cmd.Context()
			region, name := at(args, 1), at(args, 2)
			if region != "" {
				if err := checkRegion("REGION", region); err != nil {
					return err
				}
			}
			if name != "" {
				if err := netconf.ValidateName(name); err != nil {
					return node.Usagef("NAME: %v", err)
				}
			}
			org, err := r.peerOrg(ctx, c, args)
			if err != nil {
				return err
			}
			if region == "" && interactive() {
				choices, err := regionChoices(ctx, c)
				if err != nil {
					return err
				}
				if err := askOne(ctx, &region, "REGION", "Region to attach it in", choices); err != nil {
					return err
				}
			} else if region == "" {
				return missing("REGION")
			}
			if err := askText(ctx, &name, "NAME", "Name of the peer", netconf.ValidateName); err != nil {
				return err
			}
			return file.make(cmd, r, func(key string) (api.PeerConfig, error) {
				made, err := c.CreatePeer(ctx, org, api.PeerRequest{Name: name, Region: region, PublicKey: key})
				if err == nil && reachable(made) == nil {
					// A peer that can't attach is of no use, and its key is about to be lost.
					err = errors.Join(fmt.Errorf("no node in %s says where its WireGuard is reached; start one there with an endpoint first", region),
						c.DeletePeer(ctx, org, name))
				}
				return made, err
			})
		}),
	}
	file.bind(cmd)
	return cmd
}

func wireguardReset(r *remote) *cobra.Command {
	var file peerFile
	cmd := &cobra.Command{
		Use: "reset ORG NAME", Short: "Give a peer a new key; its name and address stay", Args: exactly("ORG", "NAME"), ValidArgsFunction: r.completePeerArgs(false),
		RunE: r.run(func(cmd *cobra.Command, c *api.Client, args []string) error {
			return file.make(cmd, r, func(key string) (api.PeerConfig, error) {
				return c.ResetPeer(cmd.Context(), args[0], args[1], api.PeerKeyRequest{PublicKey: key})
			})
		}),
	}
	file.bind(cmd)
	return cmd
}

func wireguardList(r *remote) *cobra.Command {
	return &cobra.Command{
		Use: "list [ORG]", Aliases: []string{"ls"}, Short: "List the peers of an org", Args: atMost(1, "one org"), ValidArgsFunction: r.completePeerArgs(false),
		RunE: r.run(func(cmd *cobra.Command, c *api.Client, args []string) error {
			org, err := r.peerOrg(cmd.Context(), c, args)
			if err != nil {
				return err
			}
			peers, err := c.Peers(cmd.Context(), org)
			if err != nil {
				return err
			}
			if r.json {
				return printJSON(cmd.OutOrStdout(), nonNil(peers))
			}
			var rows [][]string
			for _, p := range peers {
				rows = append(rows, []string{p.Name, p.Region, p.Address, p.PublicKey})
			}
			return table(cmd.OutOrStdout(), []string{"NAME", "REGION", "ADDRESS", "PUBLIC KEY"}, rows)
		}),
	}
}

func wireguardRemove(r *remote) *cobra.Command {
	return &cobra.Command{
		Use: "remove ORG NAME", Aliases: []string{"rm"}, Short: "Remove a peer; its connections end", Args: exactly("ORG", "NAME"), ValidArgsFunction: r.completePeerArgs(false),
		RunE: r.run(func(cmd *cobra.Command, c *api.Client, args []string) error {
			if err := c.DeletePeer(cmd.Context(), args[0], args[1]); err != nil {
				return err
			}
			return r.said(cmd, "removed", args[1], "Peer "+args[1]+" of org "+args[0]+" was removed.")
		}),
	}
}

// make opens the file before anything is changed, has the peer made with a key, and writes the configuration. If that
// fails the file is gone again.
func (p *peerFile) make(cmd *cobra.Command, r *remote, do func(publicKey string) (api.PeerConfig, error)) (err error) {
	out := cmd.OutOrStdout()
	if p.path != "" {
		f, oerr := p.open()
		if oerr != nil {
			return oerr
		}
		defer func() {
			if cerr := f.Close(); err == nil {
				err = cerr
			}
			if err != nil {
				os.Remove(p.path)
			}
		}()
		out = f
	}
	public, private := p.publicKey, ""
	if public == "" {
		if public, private, err = newPeerKey(); err != nil {
			return err
		}
	}
	made, err := do(public)
	if err != nil {
		return err
	}
	if r.json && p.path == "" {
		return printJSON(out, struct {
			api.PeerConfig
			PrivateKey string `json:"private_key,omitempty"`
		}{made, private})
	}
	if err := writePeer(out, made, private); err != nil {
		return err
	}
	if p.path == "" {
		return nil
	}
	if r.json {
		return printJSON(cmd.OutOrStdout(), made)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "Peer %s of org %s has the address %s.\n\nConnect\n  wg-quick up %s\n", made.Peer.Name, made.Peer.Org, made.Peer.Address, quickPath(p.path))
	return err
}

// interfaceName is what wg-quick makes an interface of: at most 15 characters in Linux.
var interfaceName = regexp.MustCompile(`^[a-zA-Z0-9_=+.-]{1,15}\.conf$`)

func (p *peerFile) open() (*os.File, error) {
	if !interfaceName.MatchString(filepath.Base(p.path)) {
		return nil, node.Usagef("--file %s: wg-quick wants a name such as shop.conf, with at most 15 letters, digits or _=+.- before .conf", p.path)
	}
	f, err := os.OpenFile(p.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%s is there already and isn't overwritten: it may hold the only copy of a key", p.path)
	}
	return f, err
}

// quickPath is a path that wg-quick takes for a file rather than for the name of an interface.
func quickPath(path string) string {
	if strings.ContainsRune(path, filepath.Separator) {
		return path
	}
	return "./" + path
}

// newPeerKey makes a Curve25519 key as wg genkey does.
func newPeerKey() (public, private string, err error) {
	var raw [32]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return "", "", err
	}
	raw[0] &= 248
	raw[31] = raw[31]&127 | 64
	key, err := ecdh.X25519().NewPrivateKey(raw[:])
	if err != nil {
		return "", "", err
	}
	return base64.StdEncoding.EncodeToString(key.PublicKey().Bytes()), base64.StdEncoding.EncodeToString(raw[:]), nil
}

// reachable is a node of the peer's region that says where it is reached.
func reachable(c api.PeerConfig) *api.PeerNode {
	for i := range c.Nodes {
		if c.Nodes[i].Endpoint != "" {
			return &c.Nodes[i]
		}
	}
	return nil
}

// writePeer writes what wg-quick and other WireGuard clients read (wg-quick(8)).
func writePeer(w io.Writer, c api.PeerConfig, private string) error {
	attached := reachable(c)
	if attached == nil {
		return fmt.Errorf("the peer has another key, but no node in %s says where its WireGuard is reached; start one there with an endpoint and repeat", c.Peer.Region)
	}
	key := "PrivateKey = " + private
	if private == "" {
		key = "# PrivateKey = yours"
	}
	_, err := fmt.Fprintf(w, `# %s/%s, attached to node %s in %s
[Interface]
%s
Address = %s/128
DNS = %s
MTU = %d

[Peer]
PublicKey = %s
AllowedIPs = %s
Endpoint = %s
PersistentKeepalive = %d
`, c.Peer.Org, c.Peer.Name, attached.Name, c.Peer.Region, key, c.Peer.Address, c.DNS, c.MTU,
		attached.PublicKey, strings.Join(c.AllowedIPs, ", "), attached.Endpoint, c.Keepalive)
	return err
}

// peerOrg is the org that is given as the first argument, or found as for other commands.
func (r *remote) peerOrg(ctx context.Context, c *api.Client, args []string) (string, error) {
	if len(args) > 0 {
		return args[0], nil
	}
	return r.orgName(ctx, c, "ORG")
}

func at(args []string, i int) string {
	if i < len(args) {
		return args[i]
	}
	return ""
}

// completePeerArgs completes ORG, then REGION of a new peer or NAME of one that there is.
func (r *remote) completePeerArgs(create bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		switch {
		case len(args) == 0:
			return r.completeOrgs(cmd, args, typed)
		case len(args) == 1 && create:
			return r.completeRegions(cmd, args, typed)
		case len(args) == 1:
			return r.complete(cmd, typed, func(ctx context.Context, c *api.Client) ([]string, error) {
				peers, err := c.Peers(ctx, args[0])
				var names []string
				for _, p := range peers {
					names = append(names, p.Name+"\t"+p.Region)
				}
				return names, err
			})
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}
