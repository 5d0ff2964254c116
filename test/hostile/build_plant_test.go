//go:build plant

package hostile_test

import "github.com/ottlaio/ottla/internal/plant"

func init() { brokerEnv = append(brokerEnv, "OTTLA_PLANT="+string(plant.Planted())) }
