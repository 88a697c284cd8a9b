package main

import (
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
)

func text(value string) *string { return &value }

func catalog(s *session) {
	animals := flightsql.TableRef{Catalog: text("lakehouse"), DBSchema: text("primary"), Table: "animals"}
	people := flightsql.TableRef{Catalog: text("lakehouse"), DBSchema: text("testing"), Table: "people"}
	commands := []struct {
		name string
		ask  func() (*flight.FlightInfo, error)
	}{
		{"catalogs", func() (*flight.FlightInfo, error) { return s.client.GetCatalogs(s.ctx) }},
		{"schemas", func() (*flight.FlightInfo, error) {
			return s.client.GetDBSchemas(s.ctx, &flightsql.GetDBSchemasOpts{DbSchemaFilterPattern: text("test%")})
		}},
		{"tables", func() (*flight.FlightInfo, error) {
			return s.client.GetTables(s.ctx, &flightsql.GetTablesOpts{
				Catalog: text("lakehouse"), TableNameFilterPattern: text("peo%"), TableTypes: []string{"TABLE"},
			})
		}},
		{"tables with schemas", func() (*flight.FlightInfo, error) {
			return s.client.GetTables(s.ctx, &flightsql.GetTablesOpts{
				DbSchemaFilterPattern: text("testing"), IncludeSchema: true,
			})
		}},
		{"table types", func() (*flight.FlightInfo, error) { return s.client.GetTableTypes(s.ctx) }},
		{"primary keys", func() (*flight.FlightInfo, error) { return s.client.GetPrimaryKeys(s.ctx, animals) }},
		{"exported keys", func() (*flight.FlightInfo, error) { return s.client.GetExportedKeys(s.ctx, animals) }},
		{"imported keys", func() (*flight.FlightInfo, error) { return s.client.GetImportedKeys(s.ctx, people) }},
		{"cross reference", func() (*flight.FlightInfo, error) {
			return s.client.GetCrossReference(s.ctx, animals, people)
		}},
		{"type info", func() (*flight.FlightInfo, error) { return s.client.GetXdbcTypeInfo(s.ctx, nil) }},
		{"sql info", func() (*flight.FlightInfo, error) {
			return s.client.GetSqlInfo(s.ctx, []flightsql.SqlInfo{
				flightsql.SqlInfoFlightSqlServerName, flightsql.SqlInfoFlightSqlServerTransaction,
			})
		}},
	}
	for _, command := range commands {
		show(command.name, func() (any, error) { return s.fetch(command.ask()) })
	}
}
