package main

import (
	"fmt"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

func queries(s *session, address string) {
	show("query", func() (any, error) { return s.query("SELECT species, legs FROM animals ORDER BY species") })
	show("join of two buckets", func() (any, error) {
		return s.query(`SELECT p.name, a.legs FROM testing.people p
			JOIN "primary".animals a ON p.pet = a.species ORDER BY name`)
	})
	show("bucket", func() (any, error) {
		other, err := connect(address, "x-lakehouse-bucket", "testing")
		if err != nil {
			return nil, err
		}
		defer other.client.Close()
		return other.query("SELECT species FROM animals")
	})
	show("login", func() (any, error) {
		other, err := connect(address)
		if err != nil {
			return nil, err
		}
		defer other.client.Close()
		if other.ctx, err = other.client.Client.AuthenticateBasicToken(other.ctx, "ada", "x"); err != nil {
			return nil, err
		}
		return other.query("SELECT 1::INTEGER AS one")
	})
	show("many rows", func() (any, error) {
		rows, err := s.query("FROM range(200000)")
		if err != nil {
			return nil, err
		}
		return len(rows.([]any)), nil
	})
	show("schema", func() (any, error) {
		result, err := s.client.GetExecuteSchema(s.ctx, "SELECT species, legs FROM animals")
		if err != nil {
			return nil, err
		}
		schema, err := flight.DeserializeSchema(result.Schema, memory.DefaultAllocator)
		return names(schema), err
	})
	for _, sql := range []string{"SELECT * FROM nothing", "SELEC 1"} {
		show(sql, func() (any, error) { return s.query(sql) })
	}
	show("update", func() (any, error) {
		counts := []int64{}
		for _, sql := range []string{"CREATE TEMP TABLE kept (i INTEGER)", "INSERT INTO kept VALUES (1), (2)"} {
			count, err := s.client.ExecuteUpdate(s.ctx, sql)
			if err != nil {
				return nil, err
			}
			counts = append(counts, count)
		}
		rows, err := s.query("SELECT i FROM kept ORDER BY i")
		return []any{counts, rows}, err
	})
	show("substrait", func() (any, error) {
		return s.client.ExecuteSubstrait(s.ctx, flightsql.SubstraitPlan{Plan: []byte("x"), Version: "0.1"})
	})
}

// parameters makes a batch of one integer and one text column from the values given in turn.
func parameters(values ...any) arrow.RecordBatch {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "1", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
		{Name: "2", Type: arrow.BinaryTypes.String, Nullable: true},
	}, nil)
	builder := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer builder.Release()
	for i := 0; i < len(values); i += 2 {
		builder.Field(0).(*array.Int32Builder).Append(int32(values[i].(int)))
		builder.Field(1).(*array.StringBuilder).Append(values[i+1].(string))
	}
	return builder.NewRecordBatch()
}

func preparedStatements(s *session) {
	sql := "SELECT species FROM animals WHERE legs = ? AND species LIKE ?"
	prepared, err := s.client.Prepare(s.ctx, sql)
	if err != nil {
		show("prepare", func() (any, error) { return nil, err })
		return
	}
	show("prepare", func() (any, error) {
		update, known := prepared.IsUpdate()
		return []any{names(prepared.DatasetSchema()), names(prepared.ParameterSchema()), update, known}, nil
	})
	show("execute prepared", func() (any, error) {
		prepared.SetParameters(parameters(4, "c%"))
		return s.fetch(prepared.Execute(s.ctx))
	})
	show("execute it again", func() (any, error) {
		prepared.SetParameters(parameters(2, "%", 4, "d%"))
		return s.fetch(prepared.Execute(s.ctx))
	})
	show("schema of prepared", func() (any, error) {
		result, err := prepared.GetSchema(s.ctx)
		if err != nil {
			return nil, err
		}
		schema, err := flight.DeserializeSchema(result.Schema, memory.DefaultAllocator)
		return names(schema), err
	})
	show("close prepared", func() (any, error) { return nil, prepared.Close(s.ctx) })
	show("prepared update", func() (any, error) { return s.insert() })
}

// insert adds rows to a temporary table through a prepared statement with three rows of parameters.
func (s *session) insert() (any, error) {
	if _, err := s.client.ExecuteUpdate(s.ctx, "CREATE TEMP TABLE pets (i INTEGER, s VARCHAR)"); err != nil {
		return nil, err
	}
	prepared, err := s.client.Prepare(s.ctx, "INSERT INTO pets VALUES (?, ?)")
	if err != nil {
		return nil, err
	}
	defer prepared.Close(s.ctx)
	update, known := prepared.IsUpdate()
	if !update || !known {
		return nil, fmt.Errorf("is_update is %t (set: %t)", update, known)
	}
	prepared.SetParameters(parameters(1, "a", 2, "b", 3, strings.Repeat("c", 3)))
	count, err := prepared.ExecuteUpdate(s.ctx)
	if err != nil {
		return nil, err
	}
	rows, err := s.query("SELECT max(s) AS s, count(*) AS n FROM pets")
	return []any{count, rows}, err
}

func transactions(s *session) {
	for _, end := range []string{"commit", "rollback"} {
		show(end, func() (any, error) {
			transaction, err := s.client.BeginTransaction(s.ctx)
			if err != nil {
				return nil, err
			}
			rows, err := s.fetch(transaction.Execute(s.ctx, "SELECT count(*) AS n FROM animals"))
			if err != nil {
				return nil, err
			}
			if end == "commit" {
				return rows, transaction.Commit(s.ctx)
			}
			return rows, transaction.Rollback(s.ctx)
		})
	}
	show("savepoint", func() (any, error) {
		transaction, err := s.client.BeginTransaction(s.ctx)
		if err != nil {
			return nil, err
		}
		defer transaction.Rollback(s.ctx)
		return transaction.BeginSavepoint(s.ctx, "here")
	})
}
