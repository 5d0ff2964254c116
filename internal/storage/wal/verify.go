package wal

import (
	"context"
	"errors"

	"github.com/cockroachdb/errors/oserror"
)

// Verify reads the wal in cfg.Dir as Open would, and changes nothing: it calls replay for every whole entry from group `from` on, and
// cfg.OnDamage, which is required, for each damaged range. For a wal that nobody has open.
//
// Errors are those of Open.
func Verify(ctx context.Context, cfg Config, from Sequence, replay func(Sequence, Entry) error) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	if cfg.OnDamage == nil {
		return errors.New("wal verify: OnDamage is required")
	}
	r := &recovery{
		cfg: cfg, medium: &folder{fs: cfg.FS, dir: cfg.Dir}, logger: cfg.Logger, from: max(from, 1), replay: replay, readOnly: true,
	}
	defer r.closeFiles()
	if err := r.run(ctx); err != nil && !oserror.IsNotExist(err) {
		return err
	}
	return nil
}
