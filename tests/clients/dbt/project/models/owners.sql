select people.name, animals.legs
from {{ source('office', 'people') }} as people
join {{ source('zoo', 'animals') }} as animals on people.pet = animals.species
order by people.name
